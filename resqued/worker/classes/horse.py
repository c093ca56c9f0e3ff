"""The horse: the process in which a class of RQ's kind runs a job; its fork, its end, its outcome.

An argument rqs is the method of RQ that is replaced.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import descendants, logs
from resqued.broker.fencing import DEATHS, INTERRUPTIONS, exists, read_counter, requeue
from resqued.broker.outages import NO_ANSWER
from resqued.broker.story import StoryEvent
from resqued.death import OUT_OF_MEMORY
from resqued.linux import set_parent_death_signal
from resqued.logs import LogEvent
from resqued.oom_kills import OomKills
from resqued.scoreboard import Phase
from resqued.worker.isolation.entry import UnpublishedRecord
from resqued.worker.job.signals import ignore_in_horse
from resqued.worker.job.story_events import StoryEvents

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.parts import WorkerCommands

_FRESH: Final = 1.0  # seconds for which the count of the cgroup is not read again
_HORSE: Final = 90.0  # RQ looks at its horse every 30 s, and kills it 60 s after the timeout


class Horse:
    """The horse of one worker's job in hand. Runs in the worker, except `live`."""

    def __init__(self, context: Context, commands: WorkerCommands) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._commands = commands
        self._died = False
        self.deaths = 0
        """How many workers and horses the job in hand has killed, if its horse has died."""
        self.event: StoryEvent | None = None
        """What the story of the job in hand is told with its outcome."""
        self.events = StoryEvents(context.slot)
        self.outcome = ""
        """The job's outcome, if the horse could not report it to hooks itself."""
        self._failure = ""  # what the job fails with, after the verdict Fail
        self._oom_kills = OomKills()
        self._out_of_memory = False
        self.why = ""
        """Why the horse of the job in hand has died, for the log."""
        self.lost = False
        """Whether the horse of the job in hand has died, and not by an order."""

    def begin(self) -> None:
        """Another job is in hand."""
        self._failure, self.why, self.lost, self.event = "", "", False, None

    def fork(self, rqs: Callable[[], None]) -> None:
        """Replaces `fork_work_horse`. The record has the horse's pid, to kill and to show it."""
        self._oom_kills.look(fresh=_FRESH)
        rqs()
        limit, pid = self._slot.turn_limit + _HORSE, self._worker.horse_pid
        self._slot.step(Phase.RUNNING, limit, job_started=time.monotonic(), horse=pid)
        self._commands.hear()  # a command may have come before there was a horse

    def monitor(
        self, rqs: Callable[[], None], job: Job, queue: Queue, execution: Execution
    ) -> None:
        """Replaces `monitor_work_horse`."""
        self.outcome = ""
        try:
            rqs()
        except _Interrupted:
            self._worker._horse_pid = 0
            self._worker.executions.pop(execution.id, None)
            self._interrupt(job, queue, execution)
        finally:
            self._died, self.deaths, self._failure = False, 0, ""
        self._slot.step(Phase.RETURNED, horse=0)

    def wait(self, rqs: Callable[[], Any]) -> Any:
        """Replaces `wait_for_horse`. A horse killed for a stop with `now` does not count as
        dead."""
        ended = rqs()
        if self._slot.now and ended[1] and not self._worker.is_horse:
            raise _Interrupted
        return ended

    def _interrupt(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Put the job back, unless it has an outcome; at the limit fail it."""
        limit, worker = self._slot.config.max_interruptions, self._worker
        try:
            if not exists(worker.connection, job, execution):
                return
            times = read_counter(worker.connection.hget(job.key, INTERRUPTIONS)) + 1
            if times > limit:
                job.retries_left = None
                self.outcome = "failed"
                text = f"Interrupted {times} times by stops of its worker; the limit is {limit}"
                self.event = self.events.failed(text)
                worker.handle_job_failure(job, queue, exc_string=text, execution=execution)
                return
            self.event = self.events.put_back()
            self._requeue(job, queue, execution, INTERRUPTIONS, times)
        except NO_ANSWER as error:  # `settle` leaves it to recovery
            logs.warning(f"job={job.id} not put back: {error}", LogEvent.JOB_NOTICE, job=job.id)

    def _requeue(
        self, job: Job, queue: Queue, execution: Execution, counter: str = "", times: int = 0
    ) -> None:
        with self._worker.connection.pipeline() as pipeline:
            self._worker.cleanup_execution(job, pipeline, execution)
            requeue(job, queue, pipeline)
            if counter:
                pipeline.hset(job.key, counter, str(times))
            pipeline.execute()
        self.outcome = "interrupted"

    def note_stopped(self, rqs: Callable[[], None]) -> None:
        """Replaces `_handle_stopped_job`."""
        rqs()
        self.outcome = "stopped"

    def note_killed(self, rqs: Callable[[], None], status: int) -> None:
        """RQ calls `handle_work_horse_killed` before it fails the job of a dead horse."""
        self._died, self.deaths = True, 0
        self._out_of_memory = not self._failure and self._oom_kills.is_cause(status)
        self.lost = not self._failure
        rqs()

    def fail(
        self,
        rqs: Callable[[str], None],
        job: Job,
        queue: Queue,
        text: str,
        execution: Execution | None,
    ) -> None:
        """Replaces `handle_job_failure`: counts a horse's death, and applies the settings for
        deaths. rqs: takes the text of the failure."""
        if self._failure:
            job.retries_left, self.outcome, text = None, "failed", self._failure
            self.event = self.events.failed(text)
        elif self._died and execution is not None:
            try:
                if self._out_of_memory:
                    text += OUT_OF_MEMORY
                self.why = text.strip().rstrip(";")
                text += self._count_death(job, queue, execution, text)
            except NO_ANSWER as error:
                logs.warning(
                    f"death of the horse of job={job.id} not written: {error}",
                    LogEvent.JOB_NOTICE,
                    job=job.id,
                )
                return  # `settle` leaves it to recovery
            if self.outcome == "interrupted":
                return
        rqs(text)

    def _count_death(self, job: Job, queue: Queue, execution: Execution, text: str) -> str:
        """Text to add to the reason; or the job is put back, if the settings say so."""
        config = self._slot.config
        self.deaths = deaths = read_counter(self._worker.connection.hget(job.key, DEATHS)) + 1
        last = deaths >= config.max_deaths
        if config.on_worker_death == "requeue" and not last:
            self.event = self.events.put_back(text)
            self._requeue(job, queue, execution)
            return ""
        if last:
            job.retries_left = None
        retried = job.should_retry
        self.outcome = "retried" if retried else "failed"
        self.event = self.events.retried(job, text) if retried else self.events.failed(text)
        return f"\nIt has killed its worker {deaths} times, which is the limit." if last else ""

    def kill_to_fail(self, reason: str) -> None:
        """Kill the horse; its job fails with the reason, without a retry. In a signal handler."""
        self._failure = reason
        self.kill(signal.SIGKILL)

    def live(self, rqs: Callable[[], None]) -> None:
        """Replaces `main_work_horse`, in the horse, which must die with its worker."""
        ignore_in_horse()
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != self._slot.pid:
            os._exit(1)
        self._slot.become(self._slot.pid, UnpublishedRecord(self._slot.writer))
        rqs()

    def kill(self, sig: signal.Signals) -> None:
        """Replaces `kill_horse`. Spares the worker's own group, in which a new horse still is."""
        horse = self._worker.horse_pid
        if not horse:
            return
        since = self._slot.writer.record.job_ticks
        listed = self._slot.leftovers.find(since) if sig == signal.SIGKILL and since else []
        with contextlib.suppress(ProcessLookupError):
            alone = os.getpgid(horse) == horse
            (os.killpg if alone else os.kill)(horse, sig)
        descendants.kill(listed)


class _Interrupted(Exception):
    """The horse was killed so that its job can be put back."""
