"""What any RQ worker class becomes in a slot: it takes, waits, listens and leaves our way.

How a job is run stays the class's own. The loop around it is RQ's `work`; the part of it that
looks for a job is replaced, so that no signal raises out of it and no job is lost in it.
"""

from __future__ import annotations

import time
from typing import Any, Final

from loguru import logger
from redis.client import Pipeline
from rq import worker_registration
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import WorkerStatus

from resqued.scoreboard import Phase, Reason
from resqued.worker.connecting import NO_ANSWER, Outage, until_answered
from resqued.worker.interrupting import Interrupted
from resqued.worker.presence import Present
from resqued.worker.taking import REST, Suspended, Taken, expand, known_queues
from resqued.worker.waiting import TURN

_KNOWN: Final = 1.0  # seconds that the list of all queues is good for


class Slotted(Present):
    """Mixed in before an RQ worker class."""

    taken: Taken | None = None
    """The job in hand, until it is marked started."""

    _known = 0
    _known_at = 0.0

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job and its queue; None when the worker has to leave.

        timeout: None in a burst, which ends when all queues are empty; else it means nothing,
        since nothing blocks in Redis. max_idle_time: seconds.
        """
        slot = self.slot
        began = time.monotonic()
        outage = Outage(slot.config.redis, slot.signals.sleep)
        while True:
            slot.turn()
            if self._has_to_leave():
                self.waiter.release()
                return None
            try:
                found = self._look()
                outage.over()
                if found is not None:
                    return found
                if self.taken is None and timeout is None:
                    slot.leave(Reason.BURST)
                elif self.taken is None and not self._idle(began, max_idle_time):
                    slot.leave(Reason.ASKED)
            except Suspended:
                if timeout is None:
                    logger.info("suspended; a burst ends here, jobs may be left")
                    slot.leave(Reason.BURST)
                else:
                    self._be_suspended(outage)
            except NO_ANSWER as error:
                self.ear.close()
                self.waiter.release()
                outage.wait(error)

    def _has_to_leave(self) -> bool:
        """Whether there is a reason to; it is remembered for `worker_exiting`."""
        slot = self.slot
        # What has come until here is seen below, and by the look at the queues after it.
        slot.signals.alert = self.ear.pushed = False
        if self.ear.commands:
            self.hear()
        if (reason := slot.stopping) is not Reason.NONE:
            slot.leave(reason)
        elif slot.reason is Reason.NONE:
            why = slot.hooks.ask("should_recycle", worker=slot.snapshot())
            if why:
                logger.info(f"recycling reason={why!r}")
                slot.leave(Reason.RECYCLED)
        return slot.reason is not Reason.NONE

    def check_for_suspension(self, burst: bool) -> None:
        """Not where RQ's loop asks, with a round trip; the script that takes sees to it."""

    # Looking.

    def _look(self) -> tuple[Job, Queue] | None:
        """Take a job if there is one and we still may; None if not. Raises redis errors."""
        self.ear.open()
        self._refresh_queues()
        if self.slot.stopping is not Reason.NONE:
            return None
        taken = self.taken = self.taker.take(self._ordered_queues)
        if taken is None:
            return None
        slot = self.slot
        prefix = self.queue_class.redis_queue_namespace_prefix
        slot.take(taken.job_id, taken.queue_key.removeprefix(prefix))
        self.waiter.release()
        if slot.stopping is not Reason.NONE:  # it came between the look and the hand
            self.give_back()
            return None
        return self._fetch(taken)

    def give_back(self) -> None:
        """The job in hand, not begun, to the front of its queue. Raises redis errors."""
        if job_id := self.taker.put_back():
            logger.info(f"put back job={job_id}")
        self.taken = None
        self.slot.rest()

    def _fetch(self, taken: Taken) -> tuple[Job, Queue] | None:
        queue = self._queue_of(taken)
        try:
            job = self.job_class.fetch(
                taken.job_id, connection=self.connection, serializer=self.serializer
            )
        except NoSuchJobError:
            logger.debug(f"job={taken.job_id} is gone; it was deleted or has expired")
            self.taker.let_go()
        except NO_ANSWER:
            raise
        except Exception as error:  # whatever a hash that RQ did not write makes of it
            self._bury(taken, queue, error)
        else:
            if queue in self._ordered_queues:
                self.reorder_queues(reference_queue=queue)
            job.redis_server_version = self.get_redis_server_version()
            return job, queue
        self.taken = None
        self.slot.rest()
        return None

    def _queue_of(self, taken: Taken) -> Queue:
        for queue in self._ordered_queues:
            if queue.key == taken.queue_key:
                return queue
        prefix = self.queue_class.redis_queue_namespace_prefix
        return self._make_queue(taken.queue_key.removeprefix(prefix))

    def _bury(self, taken: Taken, queue: Queue, error: Exception) -> None:
        """Fail a job that cannot even be read; else it would end one worker after another."""
        logger.error(f"failed job={taken.job_id} queue={queue.name}: unreadable: {error}")
        registry = FailedJobRegistry(queue.name, self.connection, job_class=self.job_class)
        with self.connection.pipeline() as pipeline:
            self.taker.settle(taken, pipeline)
            pipeline.hset(self.job_class.key_for(taken.job_id), "status", JobStatus.FAILED)
            pipeline.zadd(registry.key, {taken.job_id: time.time() + 31536000})
            pipeline.execute()

    # Beginning.

    def begin(self, execution: Execution, pipeline: Pipeline) -> bool:
        """Send the transaction that makes the job in hand a started one, until Redis answers.

        False when it is not ours any more; nothing is in hand then.
        """
        assert self.taken is not None
        slot = self.slot
        self.taker.settle(self.taken, pipeline)
        # On the record before it is in Redis: until the transaction is through, the claim counts.
        slot.writer.update(execution_id=execution.id)
        commands = list(pipeline.command_stack)

        def send() -> bool:
            # The same commands again do no harm, so a lost reply does not matter.
            pipeline.command_stack = list(commands)
            pipeline.execute()
            return True

        def send_again() -> bool:
            # In an outage longer than our key lives another has put back what we had taken.
            lost = not self.taker.holds() and not self.connection.exists(execution.key)
            return not lost and send()

        try:
            ours = send()
        except NO_ANSWER as error:
            logger.warning(f"start of job={execution.job_id} not written yet: {error}")
            outage = Outage(slot.config.redis)
            ours = until_answered(send_again, outage, slot.turn)
        self.taken = None
        if ours:
            self.executions[execution.id] = execution
            slot.step(Phase.PREPARED)
        else:
            logger.warning(f"job={execution.job_id} was put back by another worker; leaving it")
            slot.rest()
        return ours

    # Having nothing to do.

    def _idle(self, began: float, max_idle_time: int | None) -> bool:
        """Wait for a push or a signal; False when it has waited long enough altogether."""
        self.set_state(WorkerStatus.IDLE)
        self.heartbeat()
        self.maintain()
        seconds = TURN
        if max_idle_time is not None:
            seconds = began + max_idle_time - time.monotonic()
            if seconds <= 0:
                logger.info(f"idle for {max_idle_time} s")
                return False
        known = (self.queue_class.redis_queues_keys, self._known)
        self.waiter.wait(
            [queue.key for queue in self._ordered_queues],
            known if REST in self.slot.queues else None,
            seconds,
        )
        self._known_at = 0.0
        return True

    def _be_suspended(self, outage: Outage) -> None:
        """Until `rq resume`, or there is a reason to leave."""
        logger.info("suspended; `rq resume` resumes")
        self.set_state(WorkerStatus.SUSPENDED)
        self.slot.show("suspended")
        while not self._has_to_leave():
            self.slot.turn()
            try:
                self.heartbeat()
                if not self.connection.exists(WORKERS_SUSPENDED):
                    break
                self.ear.open()
                outage.over()
            except NO_ANSWER as error:
                outage.wait(error)
            self.slot.signals.sleep(1.0)
        self.slot.show("idle")

    # `*`.

    def _refresh_queues(self) -> None:
        """Look up again what `*` stands for."""
        slot = self.slot
        if REST not in slot.queues or time.monotonic() < self._known_at + _KNOWN:
            return
        self._known_at = time.monotonic()
        named = [queue.name for queue in slot.config.queues]
        known = known_queues(self.connection, self.queue_class)
        self._known = len(known)
        names = expand(slot.queues, named, known)
        if names == self.queue_names():
            return
        self.queues = [self._make_queue(name) for name in names]
        self._ordered_queues = self.queues[:]
        logger.info(f"serving queues={','.join(names)}")
        with self.connection.pipeline() as pipeline:
            worker_registration.register(self, pipeline)
            pipeline.hset(self.key, "queues", ",".join(names))
            pipeline.execute()

    def _make_queue(self, name: str) -> Queue:
        return self.queue_class(
            name=name,
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )

    # Commands.

    def hear(self) -> type[Interrupted] | None:
        """Read the ear; says whether the job in hand has to be cut. In the handler, or the loop."""
        signals, kind = self.slot.signals, None
        self.ear.read()
        while True:
            try:
                command = self.ear.commands.popleft()
            except IndexError:  # also when a handler interrupted this and took the last
                break
            if command.get("command") == "shutdown":
                signals.draining = signals.alert = True
            else:
                kind = self.cut_for(command) or kind
        if self.ear.pushed:
            signals.alert = True
        return kind

    def cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """Whether this command, from `rq.command`, cuts the job in hand. In a signal handler."""
        return None
