"""RQ's scheduler in its own process, as `--with-scheduler` starts it."""

from __future__ import annotations

import os
import signal
from typing import Any

import setproctitle
from rq.scheduler import RQScheduler

from resqued.linux import set_parent_death_signal


class Scheduler(RQScheduler):
    """Forked by a worker; ends when the worker does, however that ends."""

    def start(self) -> Any:
        self._starter = os.getpid()
        return super().start()

    def work(self) -> None:
        """Runs in the child. RQScheduler.work, for as long as the worker lives."""
        set_parent_death_signal(signal.SIGKILL)  # its locks expire by themselves
        setproctitle.setproctitle(f"resqued: scheduler {','.join(sorted(self._queue_names))}")
        if os.getppid() == self._starter:
            super().work()
