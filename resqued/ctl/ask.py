"""Asks an arbiter over its control socket for `resquedctl`, and follows the answer to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import click

from resqued.control import packets
from resqued.control.client import Connection, NotReached, TookTooLong
from resqued.control.packets import ControlAnswer, ControlRequest
from resqued.ctl.choice import REFUSED, chosen
from resqued.ctl.ends import LEAVING, Remains, follow_end, standstill, until_gone
from resqued.ctl.progress import Progress
from resqued.exits import ExitCode
from resqued.linux import birth_ticks, lives
from resqued.printable import printable
from resqued.status.chosen import ChosenArbiter, other_version

SLACK: Final = 10.0
"""Seconds beyond the boot timeout until `--wait` is given up."""

PATIENCE: Final = 30.0
"""Seconds for the answer to what is not waited for: the arbiter's loop may be in a slow hook."""

_UNBOUNDED: Final = (*LEAVING, "rest", "recycle")
"""Verbs that wait for jobs, which may take any time."""


@dataclass(frozen=True)
class Wanted:
    """A request, and how it is followed. timeout: seconds; None: the default of the verb. drained:
    a reload is over when no worker of an older generation is left."""

    request: ControlRequest
    timeout: float | None = None
    drained: bool = False

    @property
    def verb(self) -> str:
        return self.request.verb

    def limit(self, summary: dict[str, Any]) -> float | None:
        """Seconds for the answer; None: no limit."""
        if self.timeout is not None:
            return self.timeout
        if not self.request.wait:
            return PATIENCE
        if self.verb in _UNBOUNDED:
            return None
        return float(summary.get("boot_timeout", 60.0)) + SLACK


def reachable(context: click.Context) -> ChosenArbiter:
    """The same, for what needs its socket."""
    arbiter = chosen(context)
    if not arbiter.control:
        if other := other_version(arbiter.pid):
            click.echo(f"the arbiter, pid {arbiter.pid}, runs another resqued: {other}", err=True)
            context.exit(ExitCode.NOT_RUNNING)
        click.echo(
            f"the arbiter, pid {arbiter.pid}, has no control socket that this user and this version"
            " can see (its log says why); signals reach it",
            err=True,
        )
        context.exit(ExitCode.NOT_RUNNING)
    return arbiter


def answers(
    context: click.Context, request: ControlRequest, timeout: float | None = None
) -> Iterator[ControlAnswer]:
    """Each packet of the answer to a request for facts. Exits if it is refused or not reached."""
    arbiter = reachable(context)
    try:
        with Connection(arbiter.control, arbiter.owner) as connection:
            for answer in connection.ask(request, timeout):
                if answer.kind in (packets.REFUSED, packets.WRONG):
                    _say_refused(request.verb, answer)
                    context.exit(REFUSED)
                yield answer
    except NotReached as error:
        click.echo(f"not reached: {error}", err=True)
        context.exit(unreached(error))
    except TookTooLong:
        click.echo(
            f"{request.verb}: no answer in {timeout:g} s; `resquedctl status` says whether the"
            " arbiter's loop stands still",
            err=True,
        )
        context.exit(ExitCode.TRY_LATER)


def ask(context: click.Context, wanted: Wanted, *, stays: bool = False) -> int:
    """Send the request, print the answer, and exit. stays: if it is done or refused, return the
    exit status instead."""
    arbiter = reachable(context)
    with Progress(arbiter.pid, wanted.verb, shown=wanted.request.wait) as progress:
        code = _followed(arbiter, wanted, progress)
    if not stays or code not in (ExitCode.OK, REFUSED):
        context.exit(code)
    return code


def _followed(arbiter: ChosenArbiter, wanted: Wanted, progress: Progress) -> int:
    """The exit status."""
    before = arbiter.summary()
    began = time.monotonic()
    ticks = birth_ticks(arbiter.pid)
    remains = Remains(arbiter.pid if wanted.request.wait and wanted.verb in LEAVING else 0)
    try:
        try:
            return _follow(arbiter, wanted, before, progress, ticks)
        except _Ended as error:
            if wanted.verb in ("reload", "reexec") and lives(arbiter.pid, ticks):
                return _follow_reexec(arbiter, wanted, before, began, progress)
            if wanted.verb in LEAVING and arbiter.pid:
                deadline = None if wanted.timeout is None else began + wanted.timeout
                return follow_end(remains, arbiter.pid, ticks, wanted.verb, deadline, progress)
            raise NotReached(str(error)) from error
    except NotReached as error:
        progress.end()
        click.echo(f"not reached: {error}", err=True)
        return unreached(error)
    except TookTooLong:
        return _late(arbiter, wanted, progress)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


class _Ended(Exception):
    """The arbiter has accepted the request, and then the connection has ended."""


def unreached(error: NotReached) -> ExitCode:
    """The exit status."""
    is_forbidden = isinstance(error.__cause__, PermissionError)
    return ExitCode.NO_PERMISSION if is_forbidden else ExitCode.NOT_RUNNING


def _follow(
    arbiter: ChosenArbiter,
    wanted: Wanted,
    before: dict[str, Any],
    progress: Progress,
    ticks: int,
) -> int:
    """The exit status by the last packet of the answer. ticks: the arbiter's `birth_ticks`. Raises
    NotReached, TookTooLong, _Ended."""
    request = wanted.request
    deadline = None if wanted.timeout is None else time.monotonic() + wanted.timeout
    with Connection(arbiter.control, arbiter.owner) as connection:
        for answer in _answers(connection, wanted.request, wanted.limit(before), progress):
            if answer.kind in (packets.REFUSED, packets.WRONG):
                progress.end()
                _say_refused(request.verb, answer)
                return REFUSED
            if answer.last:
                if wanted.drained:
                    progress.until_drained(arbiter, answer.facts["generation"], deadline)
                progress.end()
                click.echo(_describe(request, answer.kind, answer.facts))
    if request.wait and request.verb in LEAVING:
        until_gone(arbiter.pid, ticks)
    return ExitCode.OK


def _say_refused(verb: str, answer: ControlAnswer) -> None:
    reason = str(answer.facts.get("reason", "refused"))
    click.echo(printable(f"{verb}: {reason}", lines=True), err=True)


def _answers(
    connection: Connection, request: ControlRequest, limit: float | None, progress: Progress
) -> Iterator[ControlAnswer]:
    """Each packet. Raises NotReached, and _Ended if there was one before."""
    accepted = False
    try:
        for answer in connection.ask(request, limit, progress.draw):
            yield answer
            accepted = True
    except NotReached as error:
        if accepted:
            raise _Ended(str(error)) from error
        raise


def _follow_reexec(
    arbiter: ChosenArbiter,
    wanted: Wanted,
    before: dict[str, Any],
    began: float,
    progress: Progress,
) -> int:
    """The connection ended with the image: wait for the reload of the new one. Raises
    TookTooLong, and NotReached if there is none."""
    limit, ticks = wanted.limit(before) or 0.0, birth_ticks(arbiter.pid)
    while time.monotonic() - began < limit:
        now = arbiter.summary()
        words = str(now.get("last_reload", ""))
        if words != before.get("last_reload") and not words.endswith("booting"):
            progress.end()
            if not words.endswith("done"):
                done = "done, but its reload was not: " if wanted.verb == "reexec" else ""
                text = f"{wanted.verb}: {done}{words}"
                click.echo(printable(text), err=True)
                return REFUSED
            if wanted.drained:
                deadline = None if wanted.timeout is None else began + wanted.timeout
                progress.until_drained(arbiter, int(now["generation"]), deadline)
                progress.end()
            click.echo(f"{wanted.verb}: done; generation {now.get('generation')} is in service")
            return ExitCode.OK
        if not lives(arbiter.pid, ticks):
            raise NotReached(f"the arbiter, pid {arbiter.pid}, has ended")
        progress.draw()
        time.sleep(0.1)
    raise TookTooLong


def _describe(request: ControlRequest, kind: str, facts: dict[str, Any]) -> str:
    """The last line of an answer."""
    if "plan" not in facts:  # a plugin's
        import json

        return json.dumps(facts, indent=2)
    verb = request.verb
    if verb in ("scale", "resume", "replan"):
        plan = "; ".join(f"{who}: {','.join(queues)}" for who, queues in facts["plan"].items())
        return printable(f"{verb}: {kind}; workers={facts['workers']} ({plan or 'no plan'})")
    if verb == "reload" and kind == packets.DONE:
        return f"reload: done; generation {facts['generation']} is in service"
    number = f" {request.arguments['number']}" if verb == "recycle" else ""
    return f"{verb}{number}: {kind}"


def _late(arbiter: ChosenArbiter, wanted: Wanted, progress: Progress) -> int:
    """Say what is waited for."""
    progress.end()
    if why := standstill(arbiter.pid):
        text = f"{wanted.verb}: not done in time: {why}; it acts on it when it goes on"
        click.echo(text, err=True)
        return ExitCode.TRY_LATER
    now = arbiter.summary()
    reload = now.get("last_reload", "")
    ready, total = now.get("ready"), now.get("wished")
    text = (
        f"{wanted.verb}: not done in time; the arbiter goes on with it"
        f" (state {now.get('state')}, last reload: {reload}, {ready} of {total} workers ready)"
    )
    click.echo(printable(text), err=True)
    return ExitCode.TRY_LATER
