"""Forking and reaping children of the fork server."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Final

from resqued import greenlets, linux, logs, originals, signals
from resqued.exits import ExitCode
from resqued.forkserver.inheritance import Inheritance
from resqued.groups import Groups
from resqued.logs import LogEvent

_inheritance: Final = Inheritance()

_MAXRSS_UNIT: Final = 1024  # getrusage(2): kilobytes
_PROBE: Final = 2.0  # seconds for a child that ends at once


def fork(
    live: Callable[[], int],
    *,
    abandon: Callable[[], None],
    orphaned: int,
    freeze: bool = True,
) -> int:
    """Fork a child whose whole life is `live()`; the parent gets its pid. Raises OSError.

    Runs in the fork server, or in a worker that forks for a job, from its loop only: never from a
    signal handler or a hook. live: called with the handled signals blocked; it unblocks them when
    its handlers are installed, and returns the exit status. abandon: closes what belongs to the
    fork server alone. orphaned: the signal that the child gets when its parent dies. freeze: exempt
    all objects from garbage collection, so that none writes to shared pages; not for a process that
    forks often and makes garbage.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # or the child would write it once more
    parent = os.getpid()
    _inheritance.survey()
    if freeze:
        gc.freeze()
    with signals.held():  # no signal may run the parent's handlers in the child
        pid = originals.fork()
        if pid == 0:
            _be_born(live, parent, abandon, orphaned)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)  # both processes do, so that neither sees the child without it
    return pid


def fork_again(live: Callable[[], int], *, orphaned: int) -> int:
    """Fork a child that keeps the handlers and the mask of this process, itself a child of `fork`.

    The parent gets the pid and sets the child's process group; the child has to wait for a message
    of its parent before it relies on that. Raises OSError.
    """
    parent = os.getpid()
    pid = originals.fork()
    if pid == 0:
        _be_born(live, parent, None, orphaned)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)
    return pid


def probe() -> None:
    """Fork a child that ends at once, and wait for it; for what a fork changes in the parent.

    Libraries that know of forks (pthread_atfork(3)) end their threads before it.
    """
    with signals.held():
        try:
            pid = originals.fork()
        except OSError:
            return
        if pid == 0:
            os._exit(ExitCode.OK)
    deadline = time.monotonic() + _PROBE
    with contextlib.suppress(ChildProcessError):
        while originals.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:  # an at-fork function of the application hangs
                os.kill(pid, signal.SIGKILL)
                originals.waitpid(pid, 0)
                return
            originals.sleep(0.001)


def _be_born(
    live: Callable[[], int], parent: int, abandon: Callable[[], None] | None, orphaned: int
) -> None:
    """Runs in the child and does not return: nothing may return to the parent's loop.

    abandon: None for `fork_again`, whose parent has forgotten its own parent's state already.
    """
    code: int = ExitCode.GAVE_UP
    try:
        if abandon is not None:
            os.setpgid(0, 0)
            signals.reset()
        greenlets.reinit()
        linux.set_parent_death_signal(orphaned)
        if os.getppid() != parent:  # the parent died before the signal was set
            code = ExitCode.OK
        else:
            if abandon is not None:
                abandon()
                _inheritance.forget()
            gc.enable()
            code = live()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    except BaseException:
        with contextlib.suppress(Exception):
            logs.exception("ended by an uncaught exception", LogEvent.FORK_SERVER_NOTICE)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code & 0xFF)


def reap(pids: Iterable[int], groups: Groups) -> Iterator[tuple[int, int, dict[str, float]]]:
    """The children that have ended: pid, wait status, resource usage.

    It waits for each pid by itself, so that plugins and the application can wait for their own
    children. groups: ends what the children leave in their process groups.
    """
    for pid in list(pids):
        groups.end(pid)
        try:
            reaped, status, usage = originals.wait4(pid, os.WNOHANG)
        except ChildProcessError:  # the application took it, with a wait for any child
            reaped, status, usage = pid, 0, None
        if reaped:
            yield pid, status, _usage(usage)


def _usage(usage: resource.struct_rusage | None) -> dict[str, float]:
    """Seconds and bytes, as `Exit.rusage` has them."""
    if usage is None:
        return {"utime": 0.0, "stime": 0.0, "maxrss": 0.0}
    return {
        "utime": usage.ru_utime,
        "stime": usage.ru_stime,
        "maxrss": float(usage.ru_maxrss * _MAXRSS_UNIT),
    }


class Strangers:
    """Unknown zombies: reaped when two looks have found the same one."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def reap(self, known: Iterable[int]) -> bool:
        """Look once; whether to look again soon."""
        try:
            found = originals.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            found = None
        seen, self._seen = self._seen, None
        if found is None or found.si_pid in known:
            return False
        if found.si_pid != seen:
            self._seen = found.si_pid
        else:
            with contextlib.suppress(ChildProcessError):
                originals.waitpid(found.si_pid, os.WNOHANG)
        return True


def ignore(signum: int, frame: FrameType | None) -> None:
    """A handler in place of SIG_IGN, which a program started by exec would inherit."""
