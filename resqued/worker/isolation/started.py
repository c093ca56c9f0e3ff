"""What a child's job has started."""

from __future__ import annotations

import os
import resource
import signal
from typing import Final

from resqued import linux
from resqued.signals import handler_of
from resqued.worker.job.leftovers import Leftovers

_IGNORED: Final = signal.SIG_IGN


def has_started() -> bool:
    """Whether the job has started any process: it lives, or was waited for, or might have been by
    the kernel. Runs in the child."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if used.ru_maxrss or used.ru_minflt or handler_of(signal.SIGCHLD) == _IGNORED:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class OfChild(Leftovers):
    """Those of one that is for one job: whatever there is, that has started it."""

    def __init__(self) -> None:
        pid = os.getpid()
        super().__init__(pid, linux.birth_ticks(pid))
        self._usage = ()
