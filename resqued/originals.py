"""System calls as Python defines them, bound before an application can replace them.

gevent and similar libraries replace `os.fork`, `os.waitpid`, `select.poll`, `time.sleep`, threads
and their locks by functions that switch to their own loop, which the fork server does not have.
Imported before the application; in an interpreter that was patched earlier, gevent is asked for the
originals.
"""

from __future__ import annotations

import _thread
import os
import select
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final


def _original(module: ModuleType, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


fork: Final[Callable[[], int]] = _original(os, "fork")
wait4: Final = _original(os, "wait4")
waitid: Final = _original(os, "waitid")
waitpid: Final = _original(os, "waitpid")
poll: Final = _original(select, "poll")
sleep: Final = _original(time, "sleep")
start_new_thread: Final = _original(_thread, "start_new_thread")
allocate_lock: Final = _original(_thread, "allocate_lock")
