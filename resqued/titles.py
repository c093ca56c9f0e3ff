"""Set process titles, as `ps` shows them. They replace argv, so that no secret in it stays
visible."""

from __future__ import annotations

from collections.abc import Sequence

import setproctitle

from resqued.printable import listed, printable


def arbiter(ready: int, wished: int, generation: int, note: str = "") -> None:
    """`resqued: arbiter 8/8 workers, generation 2`; note: `draining`, `reloading`."""
    _show(f"arbiter {ready}/{wished} workers, generation {generation}", note)


def command(what: str) -> None:
    """`resqued: start`, `resqued: check`: before the settings are read. Hides the arguments, which
    may contain a password."""
    _show(what)


def fork_server(generation: int, modules: Sequence[str] = (), note: str = "") -> None:
    """`resqued: fork server, generation 2 [myapp]`; a note replaces the modules."""
    _show(f"fork server, generation {generation}", note or ",".join(modules))


def worker(number: int, queues: Sequence[str], activity: str) -> None:
    """`resqued: worker 1 critical,high [idle]`; number 0 is the trial worker."""
    who = f"worker {number}" if number else "trial worker"
    _show(f"{who} {listed(queues)}", activity)


def child(number: int, activity: str) -> None:
    """`resqued: job of worker 1 [app.tasks.report since 14:03:07]`; `[next]`: forked before its job
    is known."""
    _show(f"job of worker {number}", activity)


def steward() -> None:
    """`resqued: steward`."""
    _show("steward")


def duties(name: str = "") -> None:
    """`resqued: duties [archive]`: the duty that is called."""
    _show("duties", name)


def recovery(name: str) -> None:
    """`resqued: recovery of host.a1b2.3.17`, the dead worker's name."""
    _show(f"recovery of {name}")


def _show(text: str, note: str = "") -> None:
    title = f"resqued: {text} [{note}]" if note else f"resqued: {text}"
    setproctitle.setproctitle(printable(title))
