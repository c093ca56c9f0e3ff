"""The life of the steward and of the duties process: a loop of its own in a child of a fork server,
with its signals in a mailbox."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

from resqued import logs, signals
from resqued.exits import ExitCode
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.signal_table import TABLE, InSteward

_IGNORED: Final = [row.signum for row in TABLE if row.steward is InSteward.IGNORE]
_HEARD: Final = frozenset(
    row.signum for row in TABLE if row.steward not in (InSteward.IGNORE, InSteward.DEFAULT)
)


def run_loop(serve: Callable[[Mailbox], None], failure: str, event: LogEvent) -> int:
    """Serve until told to leave; the exit status. Never raises.

    Runs in a fresh child of a fork server, whose signals are blocked; the caller ends the process
    with the status (`os._exit`). failure, event: what is logged if `serve` raises.
    """
    with Mailbox(_HEARD) as mailbox:
        for signum in _IGNORED:
            signal.signal(signum, lambda signum, frame: None)
        signals.unblock()
        try:
            serve(mailbox)
        except BaseException:
            logs.exception(failure, event)
            return ExitCode.GAVE_UP
    return ExitCode.OK
