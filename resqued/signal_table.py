"""What each signal does, in each kind of process. Handlers, masks and sets derive from this table.

Signals that do not control resqued are not here: SIGPIPE, SIGALRM (RQ's timeouts), and SIGIO,
which the kernel sends in place of COMMAND when too many are queued.
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import Final


class InArbiter(enum.StrEnum):
    """What a signal asks of the arbiter (`core.signals`)."""

    DRAIN = "drain"
    TERM = "term"  # now, or drain, by the setting on_term
    STOP_NOW = "stop now"
    RELOAD = "reload"
    REOPEN = "reopen"
    REEXEC = "re-exec"
    REST = "rest"  # stop all workers, keep the arbiter
    GROW = "grow"
    SHRINK = "shrink"
    WAKE = "wake"  # only ends the wait of the loop
    DEFAULT = "default"  # the default action; resqued does not send it


class InForkServer(enum.StrEnum):
    DRAIN = "drain"  # workers finish their jobs and leave, then it leaves
    REOPEN = "reopen"
    WAKE = "wake"
    DEFAULT = "default"


class InSteward(enum.StrEnum):
    LEAVE = "leave"
    SIGN_OFF = "sign off"  # leave, and deregister the arbiter and its workers
    REOPEN = "reopen"
    WAKE = "wake"
    IGNORE = "ignore"
    DEFAULT = "default"


class InWorker(enum.StrEnum):
    """In a worker, and in a process that runs one of its jobs, where only REOPEN has an effect."""

    DRAIN = "drain"  # finish the job, then leave
    INTERRUPT = "interrupt"  # cut the job, put it back, leave
    COMMAND = "command"  # look at the orders
    REOPEN = "reopen"
    DUMP = "dump"  # write the stacks
    IGNORE = "ignore"  # a handler that does nothing
    DEFAULT = "default"


class AtStart(enum.StrEnum):
    """In the arbiter's process before its loop runs."""

    HOLD = "hold"  # blocked until the loop unblocks it
    DEFAULT = "default"


@dataclass(frozen=True)
class SignalRow:
    """One signal."""

    signum: int
    name: str  # as `signal_received` gets it, without SIG
    arbiter: InArbiter
    fork_server: InForkServer
    steward: InSteward
    worker: InWorker
    start: AtStart = AtStart.HOLD


DRAIN: Final = signal.SIGQUIT
"""To a worker, from the arbiter or its fork server, or from the kernel at the end of its parent."""

SIGN_OFF: Final = signal.SIGTERM
"""To a steward, from the arbiter."""

REOPEN: Final = signal.SIGUSR1
"""To stewards, workers and children of workers, from their parents."""

NOW: Final = signal.SIGRTMIN + 1
"""To a worker, from the arbiter or a fork server, together with the stop word NOW."""

DUMP: Final = signal.SIGRTMIN + 2
"""To a worker: faulthandler writes the stacks of all threads, even from inside C code."""

COMMAND: Final = signal.SIGRTMIN + 3
"""To a worker: there is an order on the scoreboard, or, from the kernel, the connection that brings
commands has something to read (a worker without an arbiter)."""

_A, _F, _S, _W = InArbiter, InForkServer, InSteward, InWorker

TABLE: Final = [
    SignalRow(DRAIN, "QUIT", _A.DRAIN, _F.DRAIN, _S.LEAVE, _W.DRAIN, AtStart.DEFAULT),
    SignalRow(SIGN_OFF, "TERM", _A.TERM, _F.DRAIN, _S.SIGN_OFF, _W.DRAIN, AtStart.DEFAULT),
    SignalRow(signal.SIGINT, "INT", _A.STOP_NOW, _F.DRAIN, _S.LEAVE, _W.DRAIN, AtStart.DEFAULT),
    SignalRow(signal.SIGHUP, "HUP", _A.RELOAD, _F.WAKE, _S.WAKE, _W.IGNORE),
    SignalRow(REOPEN, "USR1", _A.REOPEN, _F.REOPEN, _S.REOPEN, _W.REOPEN),
    SignalRow(signal.SIGUSR2, "USR2", _A.REEXEC, _F.WAKE, _S.WAKE, _W.IGNORE),
    SignalRow(signal.SIGWINCH, "WINCH", _A.REST, _F.WAKE, _S.WAKE, _W.IGNORE),
    SignalRow(signal.SIGTTIN, "TTIN", _A.GROW, _F.WAKE, _S.WAKE, _W.IGNORE),
    SignalRow(signal.SIGTTOU, "TTOU", _A.SHRINK, _F.WAKE, _S.WAKE, _W.IGNORE),
    SignalRow(signal.SIGCHLD, "CHLD", _A.WAKE, _F.WAKE, _S.WAKE, _W.DEFAULT, AtStart.DEFAULT),
    SignalRow(NOW, "NOW", _A.DEFAULT, _F.DEFAULT, _S.IGNORE, _W.INTERRUPT, AtStart.DEFAULT),
    SignalRow(DUMP, "DUMP", _A.DEFAULT, _F.DEFAULT, _S.DEFAULT, _W.DUMP, AtStart.DEFAULT),
    SignalRow(COMMAND, "COMMAND", _A.DEFAULT, _F.WAKE, _S.IGNORE, _W.COMMAND, AtStart.DEFAULT),
]
"""Only tests add to it, before they import anything else of resqued."""


def row_of(signum: int) -> SignalRow:
    """Raises KeyError for a signal that is not in the table."""
    for row in TABLE:
        if row.signum == signum:
            return row
    raise KeyError(signum)


def row_named(name: str) -> SignalRow:
    """name: without SIG. Raises KeyError for a signal that is not in the table."""
    for row in TABLE:
        if row.name == name:
            return row
    raise KeyError(name)
