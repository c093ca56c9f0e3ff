"""Entering and leaving code of the user's: what that may have done to the worker's process."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis
from rq.job import Job

from resqued import logs
from resqued.broker.connection import abandon
from resqued.broker.strict import given_timeout
from resqued.logs import logger
from resqued.scoreboard import Phase, Reason

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


class JobConnection:
    """Makes it, lends it, and throws it away when it was used. Runs in the worker.

    ours: the worker's client, whose server, credentials and classes it has too.
    timeout: seconds that a command of the job's may take, if the URL does not say it; RQ gives
    `Worker.connection_timeout`.
    """

    def __init__(self, ours: redis.Redis, timeout: float) -> None:
        self._ours = ours
        self._timeout = timeout
        self._client: redis.Redis | None = None
        self._pool: Any = None
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def lent(self, job: Job) -> Iterator[None]:
        """While code of the user's runs that is given the job."""
        self.lend(job)
        try:
            yield
        finally:
            self.take_back(job)

    def lend(self, job: Job) -> None:
        job.connection = self.unused()

    def unused(self) -> redis.Redis:
        """The client. Where one is made before a fork, the child has it without the work."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def take_back(self, job: Job) -> None:
        """Have what RQ does for the job go over the worker's connection again."""
        job.connection = self._ours

    def end(self, *, damaged: bool = False) -> None:
        """After a job. What a thread of its uses at this moment is left to that.

        damaged: the job has closed descriptors, so those of this connection may be others' now.
        """
        client = self._client
        if client is None or not self._is_used(client):
            return
        self._client = None
        with contextlib.suppress(Exception):
            if damaged:
                abandon(client)
            else:
                client.connection_pool.disconnect(inuse_connections=False)

    def _is_used(self, client: redis.Redis) -> bool:
        """Whether it has ever connected, or is not what it was. True when redis-py does not let it
        be told."""
        pool = self._pool
        return bool(
            getattr(pool, "_created_connections", True)
            or getattr(pool, "_connections", ())
            or client.connection_pool is not pool
            or pool.connection_kwargs != self._settings
        )

    def _make(self) -> redis.Redis:
        ours: Any = self._ours.connection_pool
        pool = copy.copy(ours)
        given = given_timeout(ours)
        pool.connection_kwargs = {
            **ours.connection_kwargs,
            "socket_timeout": self._timeout if given is None else given,
        }
        for name in ("_lock", "_fork_lock"):
            if hasattr(pool, name):
                setattr(pool, name, threading.RLock())
        pool.reset()
        self._pool, self._settings = pool, dict(pool.connection_kwargs)
        return type(self._ours)(connection_pool=pool)
