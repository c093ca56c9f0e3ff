"""Restore the worker's process after code of the user's, and lend jobs a connection."""

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
from resqued.logs import LogEvent
from resqued.scoreboard import Phase, Reason

if TYPE_CHECKING:
    from resqued.worker.context import Context


class UserCode:
    """Runs around the code of one worker's jobs, in its main thread. connection: given to jobs."""

    def __init__(self, context: Context, connection: JobConnection) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self.connection = connection

    def leave(self, job: Job) -> None:
        """Restore the worker's process after the job's code."""
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
        """The job has closed the worker's descriptors: some may be other files now, so use none."""
        self._slot.damaged = True
        abandon(self._worker.connection)
        self._context.listener.abandon()
        with contextlib.suppress(OSError):
            for fd in logs.fds().values():
                os.dup2(2, fd)
        logs.warning("the job has closed descriptors of its worker", LogEvent.WORKER_NOTICE)
        self.leave_after_this()

    def leave_after_this(self) -> None:
        """Exit after this job: a process that was interrupted at any place may be broken. A worker
        without an arbiter stays, as RQ's SimpleWorker does: nothing would replace it."""
        if not self._slot.alone:
            self._slot.leave(Reason.ASKED if self._slot.now else Reason.CUT)

    def lend(self, job: Job) -> contextlib.AbstractContextManager[None]:
        """A context in which user code runs that is given the job."""
        self._slot.boundary.use()
        return self.connection.lent(job)


class JobConnection:
    """Makes the connection that job code is given, and discards it after use. Runs in the worker.

    It is never the worker's own: whatever a job does to it (SELECT, SUBSCRIBE, MULTI, a blocking
    command, close) ends with the job, as in RQ, where each horse connects again. A job that does
    not use it costs nothing: it connects at its first command. worker: the worker's client, with
    the server, credentials and classes to use. timeout: seconds that a command of the job's may
    take, unless the URL says it; RQ's is `Worker.connection_timeout`.
    """

    def __init__(self, worker: redis.Redis, timeout: float) -> None:
        self._worker_client = worker
        self._timeout = timeout
        self._client: redis.Redis | None = None
        self._pool: Any = None
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def lent(self, job: Job) -> Iterator[None]:
        """A context in which user code runs that is given the job."""
        self.lend(job)
        try:
            yield
        finally:
            self.take_back(job)

    def lend(self, job: Job) -> None:
        job.connection = self.unused()

    def unused(self) -> redis.Redis:
        """The client, unconnected. If it is made before a fork, the child has it already."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def take_back(self, job: Job) -> None:
        """Give the job the worker's connection again, for RQ's code."""
        job.connection = self._worker_client

    def end(self, *, damaged: bool = False) -> None:
        """After a job: discard the client if it was used. A connection in use by a thread is left
        to it. damaged: the job has closed descriptors, so those of this connection may be other
        files now."""
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
        """Whether it has ever connected, or was changed. True when redis-py does not tell."""
        pool = self._pool
        return bool(
            getattr(pool, "_created_connections", True)
            or getattr(pool, "_connections", ())
            or client.connection_pool is not pool
            or pool.connection_kwargs != self._settings
        )

    def _make(self) -> redis.Redis:
        own: Any = self._worker_client.connection_pool
        pool = copy.copy(own)
        given = given_timeout(own)
        pool.connection_kwargs = {
            **own.connection_kwargs,
            "socket_timeout": self._timeout if given is None else given,
        }
        for name in ("_lock", "_fork_lock"):
            if hasattr(pool, name):
                setattr(pool, name, threading.RLock())
        pool.reset()
        self._pool, self._settings = pool, dict(pool.connection_kwargs)
        return type(self._worker_client)(connection_pool=pool)
