"""Entering and leaving code of the user's: what that may have done to the worker's process."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from rq.job import Job

from resqued import logs
from resqued.broker.connection import abandon
from resqued.logs import logger
from resqued.scoreboard import Phase, Reason
from resqued.worker.job.connection import JobConnection

if TYPE_CHECKING:
    from resqued.worker.context import Context


class JobCode:
    """That of one worker's jobs. Lives in the worker, in its main thread. connection: what jobs are
    given."""

    def __init__(self, context: Context, connection: JobConnection) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self.connection = connection

    def leave(self, job: Job) -> None:
        """Make the process the worker's again, whatever the job did to it."""
        slot = self._slot
        if os.getpid() != slot.pid:  # the job forked, and this is the child
            os._exit(0)
        if not slot.signals.intact:
            self._mend()
            slot.signals.install()
        slot.boundary.regain()
        self.connection.take_back(job)
        fast = self._context.fast_path
        slot.step(Phase.RETURNED, token=fast.hand.make_token() if fast is not None else "")

    def _mend(self) -> None:
        """The job has closed our descriptors, and some may be other files now: touch none."""
        self._slot.damaged = True
        abandon(self._worker.connection)
        self._context.listener.abandon()
        with contextlib.suppress(OSError):
            for fd in logs.fds().values():
                os.dup2(2, fd)
        logger.warning("the job has closed descriptors of its worker")
        self.leave_after_this()

    def leave_after_this(self) -> None:
        """A process that an exception hit anywhere is not trusted with another job.

        On its own there is nobody to replace it, so it stays, as RQ's SimpleWorker does.
        """
        if not self._slot.alone:
            self._slot.leave(Reason.ASKED if self._slot.now else Reason.CUT)

    def lend(self, job: Job) -> contextlib.AbstractContextManager[None]:
        """While other code of the user's runs that is given the job."""
        self._slot.boundary.use()
        return self.connection.lent(job)
