"""Bounds the exit of the arbiter's process, which threads of a plugin could delay for ever."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import sys
import threading
import time
from typing import Final

from resqued import logs
from resqued.logs import LogEvent

PATIENCE: Final = 3.0
"""Seconds for threads and atexit functions of plugins, after everything else has ended."""


_STUBBORN: Final = 5.0
"""More seconds before code that never releases the GIL is ended: on a busy machine another thread
may need some to run."""

_bounded: Final[list[int]] = []  # the exit code, once it is called


def bound_exit(code: int, seconds: float = PATIENCE) -> None:
    """Have this process end within `seconds`, with `code`, whatever still runs in it.

    Python waits for threads that are not daemons, then calls atexit functions, and a plugin's may
    never return. Runs in the arbiter, last. The caller then ends as any program, but `os._exit`
    replaces the interpreter's finalization. A second call does nothing.
    """
    if _bounded:
        return
    _bounded.append(code)
    _flush()
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    lasting = [each.name for each in others if not each.daemon]
    if lasting:
        logs.warning(
            f"threads that a plugin has left running: {', '.join(lasting)}; the arbiter leaves"
            f" without them in {seconds:g} s (end them in arbiter_exited)",
            LogEvent.ARBITER_NOTICE,
        )
    try:
        threading.Thread(target=_insist, args=(code, seconds), daemon=True).start()
        # for code that never releases the GIL; its exit status is always 1
        faulthandler.dump_traceback_later(seconds + _STUBBORN, exit=True, file=logs.fds()["log"])
    except (RuntimeError, OSError, ValueError):  # no thread can be started
        if lasting:
            os._exit(code)
    atexit.register(_finish, code)  # the first to be called, once all threads have ended


def _finish(code: int) -> None:
    """Run all other atexit functions, then end the process."""
    try:
        atexit.unregister(_finish)
        atexit._run_exitfuncs()
        _flush()
    finally:
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _insist(code: int, seconds: float) -> None:
    time.sleep(seconds)
    os._exit(code)
