"""The last seconds of the arbiter's process: nothing that a plugin has left may hold it up."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from typing import Final

from resqued import logs
from resqued.logs import logger

PATIENCE: Final = 3.0
"""Seconds that threads and atexit functions of plugins have once everything else is gone."""


def bound_exit(code: int, seconds: float = PATIENCE) -> None:
    """Have this process end within `seconds`, with `code`, whatever still runs in it.

    Python waits for threads that are no daemons, then calls atexit functions, and a plugin's may
    never return. Runs in the arbiter, last; the caller then ends as any program.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    lasting = [each.name for each in others if not each.daemon]
    if lasting:
        logger.warning(
            f"threads that a plugin has left running: {', '.join(lasting)}; the arbiter leaves"
            f" without them in {seconds:g} s (end them in arbiter_exited)"
        )
    try:
        threading.Thread(target=_insist, args=(code, seconds), daemon=True).start()
        # for code that never lets go of the interpreter; it knows no other status than 1
        faulthandler.dump_traceback_later(seconds + 1.0, exit=True, file=logs.fds()["log"])
    except (RuntimeError, OSError, ValueError):  # no thread to be had
        if lasting:
            os._exit(code)


def _insist(code: int, seconds: float) -> None:
    time.sleep(seconds)
    os._exit(code)
