"""Applications whose code runs in greenlets: gevent's loop after a fork, and where the job is.

In a process patched by gevent a job that waits has handed over to the hub, another greenlet with
a stack of its own; that is where signal handlers run then. What they raise there the hub throws
into the main greenlet, which runs the job. Imports nothing: without gevent there is none of this.
"""

from __future__ import annotations

import contextlib
import sys
from types import CodeType, FrameType


def reinit() -> None:
    """Make gevent's loop and threads this process's own. For each fresh child of a fork server,
    before its first line that could wait."""
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        with contextlib.suppress(Exception):  # half imported, or older than this function
            gevent.reinit()


def main_frame() -> FrameType | None:
    """Where the main greenlet stands while another one runs; None if it runs itself."""
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
