"""Support for applications that gevent has patched, whose code runs in greenlets.

There, a job that waits has switched to the hub, a greenlet with a stack of its own, and signal
handlers run on that stack. What they raise there, the hub raises in the main greenlet, which runs
the job. Imports nothing, and does nothing without gevent.
"""

from __future__ import annotations

import contextlib
import sys
from types import CodeType, FrameType


def reinit() -> None:
    """Give gevent's loop and threads to this process. For each new child of a fork server, before
    its first call that may wait."""
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        with contextlib.suppress(Exception):  # partly imported, or too old to have it
            gevent.reinit()


def main_frame() -> FrameType | None:
    """The frame of the main greenlet while another one runs; None if it runs itself."""
    hubs = sys.modules.get("gevent.hub")
    greenlet = sys.modules.get("greenlet")
    hub = getattr(hubs, "_get_hub", lambda: None)()
    if hub is None or greenlet is None:
        return None
    main = hub.parent
    return None if main is greenlet.getcurrent() else main.gr_frame


def is_below(code: CodeType, frame: FrameType | None) -> bool:
    """Whether a call of the function with this code is on the stack."""
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
