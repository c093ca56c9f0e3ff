"""`resqued --status` and `resquedctl status`: print what a running arbiter is doing.

It is read from its scoreboard, without asking it, so it works even if the arbiter's loop hangs.
Runs in a command of its own.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any, Final

from resqued.exits import ExitCode
from resqued.status import text
from resqued.status.chosen import NoArbiter, only_one, pid_of_file
from resqued.status.page import page
from resqued.status.reader import ArbiterStatus, StatusReader

_UNTOLD: Final = ("slots", "limits", "redis")
"""What of the arbiter's summary is not shown: workers and queues have it, or it has a password."""

PERIOD: Final = 1.0
"""Seconds between two looks of `--watch`."""

_HOME_AND_CLEAR: Final = "\x1b[H\x1b[2J"


def main(pid_path: str | None, *, as_json: bool = False, ready: bool = False) -> int:
    """Print the status of the arbiter whose pid file this is; returns the exit code.

    Without a pid file that of the only one there is. ready: it is a failure if no worker is ready.
    """
    try:
        pid = pid_of_file(pid_path) if pid_path is not None else only_one()
        return show(pid, as_json=as_json, ready=ready)
    except NoArbiter as error:
        print(error, file=sys.stderr)
        return error.exit_code


def show(pid: int, *, as_json: bool = False, ready: bool = False, everything: bool = False) -> int:
    """Print the status of this arbiter; returns the exit code. Raises NoArbiter."""
    with StatusReader(pid) as reader:
        status = reader.read(details=everything or as_json)
    text.show(without_passwords(_as_text(status, as_json=as_json, everything=everything)))
    if ready and not status.in_state("idle", "busy"):
        print("no worker is ready", file=sys.stderr)
        return ExitCode.NOT_RUNNING
    return ExitCode.OK


def watch(pid: int, *, as_json: bool = False, everything: bool = False) -> int:
    """Print it each second, until the arbiter has gone or Control-C. With as_json one line each
    time. Raises NoArbiter."""
    clear = _HOME_AND_CLEAR if sys.stdout.isatty() and not as_json else ""
    with StatusReader(pid) as reader:
        while True:
            status = reader.read(details=everything or as_json)
            if status.process == "gone":
                print(f"the arbiter, pid {pid}, has ended", file=sys.stderr)
                return ExitCode.NOT_RUNNING
            if as_json:
                shown = json.dumps(as_plain(status))
            else:
                shown = clear + _as_text(status, everything=everything) + ("" if clear else "\n")
            text.show(without_passwords(shown))
            sys.stdout.flush()
            time.sleep(PERIOD)


def _as_text(status: ArbiterStatus, *, as_json: bool = False, everything: bool = False) -> str:
    if as_json:
        return json.dumps(as_plain(status), indent=2)
    lines = page(status, text.terminal_width(sys.stdout), everything=everything)
    return text.written(lines, colour=text.has_colour(sys.stdout))


def as_plain(status: ArbiterStatus) -> dict[str, Any]:
    """The status as JSON can carry it."""
    measured = dict(vars(status.facts)) if status.facts is not None else {}
    measured.pop("queues", None)
    if status.facts is not None and status.facts.schedule is not None:
        measured["schedule"] = asdict(status.facts.schedule)
    return {
        "process": status.process,
        **{name: value for name, value in status.summary.items() if name not in _UNTOLD},
        "count": status.count,
        "loop_stands_still": status.still,
        "jobs": {"done": status.done, "failed": status.failed},
        "memory": status.memory,
        "memory_is_estimate": status.is_estimate,
        "redis": measured or None,
        "queues": [asdict(line) for line in status.queues],
        "workers": [asdict(line) for line in status.workers],
    }


def without_passwords(text: str) -> str:
    """Remove passwords. They are looked for only where one can be: it takes a while to load."""
    if "://" not in text and "password" not in text.lower():
        return text
    from resqued.logs.redaction import redact

    return redact(text)
