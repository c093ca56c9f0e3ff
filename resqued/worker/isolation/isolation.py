"""Direct the children of a worker: which one runs a job, for how long, and what its end means.

The frame that decides is the outcome, however the child ends afterwards. Only a stop-job that came
before it was read overrides it. A child that ends without a frame has died, and so has its job, by
RQ's rules; the worker goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import linux, logs
from resqued.logs import LogEvent
from resqued.oom_kills import OomKills
from resqued.queue_words import FORK, ISOLATION, WORKER
from resqued.scoreboard import Order, Phase, Reason
from resqued.worker.isolation import child as children
from resqued.worker.isolation import parcel
from resqued.worker.isolation.child import HasDescriptors, JobChild
from resqued.worker.isolation.child_outcomes import ChildOutcomes
from resqued.worker.isolation.death_cause import describe_death
from resqued.worker.isolation.finished_children import FinishedChildren
from resqued.worker.isolation.frames import Frame, FrameKind
from resqued.worker.isolation.spares import Spares
from resqued.worker.job.interruptions import ORDERS, Interrupted, Stopped
from resqued.worker.job.leftovers import log_ended

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.isolation.child_main import ChildMain
    from resqued.worker.isolation.entry import IsolatedRunner

_SPARE: Final = 0.5
"""Seconds without a job after which the spare child is ended; and the longest pause between two
jobs at which one is worth its cost."""
_SLACK: Final = 2.0  # seconds within which a killed child has ended
_FRESH: Final = 1.0  # seconds for which the count of the cgroup is not read again
_NO_PROCESS: Final = 1.0  # seconds to wait after a failed fork


class Isolation:
    """The children of one worker. Runs in the worker's main thread."""

    def __init__(self, context: Context, runner: IsolatedRunner) -> None:
        self._context = context
        self._runner = runner
        self._slot = context.slot
        general, own = ISOLATION.split(self._slot.config.isolation)
        self._general, self._own = general, own
        self._spares = Spares(
            context,
            runner,
            pure=general == FORK and WORKER not in own.values(),
            kin=lambda: self._kin,
            fork=lambda: self._fork(lambda child_main: child_main.run_next(), ahead=True),
        )
        self._finished = FinishedChildren(self._slot)
        self._oom_kills = OomKills()
        self._outcomes = ChildOutcomes(context, runner)
        self._used_at = -inf  # when a job last ended
        self.busy = False
        """Whether the job in hand runs in a child."""
        self._child: JobChild | None = None  # the child that runs it

    def forks(self, queue: str) -> bool:
        """Whether the jobs of this queue run in children."""
        word = self._own.get(queue, self._general)
        return word == FORK and self._slot.forge is not None

    def must_not_fork(self, queue: str) -> bool:
        """Whether this worker must not fork for a job, and exits instead. Threads that jobs have
        left may hold locks, which would never be released in the child."""
        threads = self._slot.boundary.threads
        if not threads or not self.forks(queue):
            return False
        logs.info(
            f"replaced before it forks: jobs have left {threads} threads in this worker",
            LogEvent.WORKER_RECYCLED,
        )
        self._slot.leave(Reason.RECYCLED)
        return True

    def note_outcome(self, status: str, seconds: float) -> None:
        """Called by `Outcomes.record`, for the child: how the job in hand has ended."""
        self._outcomes.note_outcome(status, seconds)

    # A job.

    def perform(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Run a prepared execution in a child, to its outcome. Never raises errors of the job."""
        cut = self._slot.signals.wanted
        used_lately = time.monotonic() < self._used_at + _SPARE
        self.busy = True
        try:
            if cut is not None:  # a command came before there was a child
                self._slot.step(Phase.RETURNED, stopped=ORDERS.get(cut, Order.NONE))
                self._outcomes.write_cut(cut, os.getpid(), job, queue, execution)
                return
            self._oom_kills.look(fresh=_FRESH)
            self._child = child = self._start(job, queue, execution)
            if child is None:
                return
            if used_lately:
                self._spares.make()
            self._follow(child, job, queue, execution)
        finally:
            self.busy, self._child = False, None
            self._used_at = time.monotonic()

    def _start(self, job: Job, queue: Queue, execution: Execution) -> JobChild | None:
        """Give the job to a child. None: no child could be forked, and the job was put back."""
        since = linux.boot_ticks()
        record = self._slot.writer.record
        extra = {
            "at_limit": self._context.unreadable.at_limit,
            "done": record.done,
            "failed": record.failed,
            "memory": record.memory,
        }
        child = self._spares.take(lambda: parcel.pack(job, queue, execution, extra))
        if child is None:
            try:
                child = self._fork(lambda child_main: child_main.run(job, queue, execution, extra))
            except OSError as error:
                logs.warning(
                    f"put back job={job.id}: no child can be forked: {error}",
                    LogEvent.JOB_PUT_BACK,
                    job=job.id,
                )
                self.busy = False
                why = f"no child could be forked for it: {error}"
                self._runner.writer.tell(execution.id, self._runner.outcomes.story.put_back(why))
                self._runner.writer.put_back(job, queue, execution, None, 0)
                self._runner.outcomes.record(job, "interrupted", error)
                self._slot.signals.sleep(_NO_PROCESS)
                return None
        child.since = since
        self._slot.step(
            Phase.RUNNING,
            job_started=time.monotonic(),
            job_ticks=since,
            job_timeout=self._context.seconds_of(job),
            horse=child.pid,
            horse_ticks=child.ticks,
        )
        return child

    def _fork(self, live: Callable[[ChildMain], object], *, ahead: bool = False) -> JobChild:
        assert self._slot.forge is not None
        return children.fork(
            self._context, self._runner, self._slot.forge, self._kin, live, ahead=ahead
        )

    @property
    def _kin(self) -> list[HasDescriptors]:
        known = (self._child, self._finished.ending)
        return [*self._spares.kin, *(each for each in known if each is not None)]

    # Until its outcome.

    def _follow(self, child: JobChild, job: Job, queue: Queue, execution: Execution) -> None:
        seconds = self._context.seconds_of(job)
        limit = seconds + self._slot.config.kill_after if seconds > 0 else inf
        frame, cut = self._watch(child, limit)
        if cut is None and frame is not None:
            self._slot.step(Phase.RETURNED)
            self._outcomes.write_frame(frame, job, queue, execution)
            self._finished.begin(child, self._outcomes.word, leaves=frame.facts.get("leaves"))
            return
        self._slot.step(Phase.RETURNED, stopped=ORDERS.get(cut or Interrupted, Order.NONE))
        began = child.has_job
        ended = child.end_descendants()
        log_ended(job.id, ended)
        death = child.reap()
        self._slot.writer.update(horse=0, horse_ticks=0)
        if cut is Stopped:
            self._outcomes.write_cut(cut, child.pid, job, queue, execution)
        elif frame is not None:
            self._outcomes.write_frame(frame, job, queue, execution)
        elif cut is not None:
            self._outcomes.write_cut(cut, child.pid, job, queue, execution)
        elif not began and child.ahead:
            self._run_again(job, queue, execution)
        else:
            late = time.monotonic() >= child.until if child.until else False
            why = self._too_late(seconds) if late else describe_death(death.status, self._oom_kills)
            self._outcomes.write_death(death, child.pid, why, job, queue, execution)

    def _too_late(self, seconds: float) -> str:
        after = self._slot.config.kill_after
        return (
            f"its process still ran {after:g} s after its timeout of {seconds:g} s (--kill-after)"
        )

    def _run_again(self, job: Job, queue: Queue, execution: Execution) -> None:
        """The child that was forked ahead died before it had the job: run it in another."""
        logs.warning(
            f"job={job.id} had not begun when its process died; forking another",
            LogEvent.JOB_NOTICE,
            job=job.id,
        )
        self._spares.dismiss()
        self._child = None
        self.perform(job, queue, execution)

    def _watch(
        self, child: JobChild, limit: float
    ) -> tuple[Frame | None, type[Interrupted] | None]:
        """Wait until the child has reported how its job has ended, has died, or has to be ended.
        limit: seconds after which it is killed. Returns the frame that decides, if any, and the cut
        that was asked for, if it came first. Without a frame the child has ended."""
        signals, slot = self._slot.signals, self._slot
        deadline = time.monotonic() + limit
        turn = slot.turn_limit / 4
        turned = time.monotonic()
        while True:
            cut = signals.wanted  # asked for before the frames read now
            frames = child.read()
            child.frames += frames
            for frame in frames:
                if frame.kind is FrameKind.ALLOW:
                    more = float(frame.facts.get("seconds", 0)) + slot.config.kill_after
                    deadline = max(deadline, time.monotonic() + more)
                elif frame.kind.decides:
                    return (frame, None) if cut is not Stopped else (self._end(child, cut), cut)
            cut = signals.wanted
            now = time.monotonic()
            if cut is not None or now >= deadline or child.has_ended:
                if cut is None and now >= deadline:
                    child.until = deadline
                return self._end(child, cut), cut
            if now >= turned + turn or signals.reopened:
                if signals.reopened:
                    child.signal_reopen()
                    self._spares.reopen()
                slot.turn()
                turned = now
            self.tend()
            left = min(deadline - now, turn, child.poll_interval, self._finished.next_check)
            signals.wait(max(0.0, left), child.descriptors)

    def _end(self, child: JobChild, cut: type[Interrupted] | None) -> Frame | None:
        """Kill the child with its group; a frame that decides, if it has sent one before."""
        if cut is not None and cut in ORDERS:
            self._slot.writer.update(stopped=ORDERS[cut])
        child.kill()
        while not child.wait(self._slot.turn_limit / 4):  # in an uninterruptible system call
            self._slot.turn()
        child.frames += child.read()
        return next((frame for frame in child.frames if frame.kind.decides), None)

    # Other code of a job.

    def run(self, job: Job, call: Callable[[], object], seconds: float) -> None:
        """Run user code in a new child, with the job as it would see it, and wait for its end. For
        a job whose child is gone. seconds: that the code may take. Never raises; errors are logged
        in the child."""
        config, signals = self._slot.config, self._slot.signals
        try:
            child = self._fork(lambda child_main: child_main.call(job, call, config.exit_timeout))
        except OSError as error:
            logs.error(
                f"no child can be forked for what belongs to job={job.id}: {error}",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            return
        child.since = linux.boot_ticks()
        until = time.monotonic() + max(0.0, seconds) + config.kill_after + config.exit_timeout
        while not child.has_ended and time.monotonic() < until:
            self._slot.turn()
            left = min(until - time.monotonic(), self._slot.turn_limit / 4)
            signals.wait(max(0.0, min(left, child.poll_interval)), child.descriptors)
            child.read()
        if not child.has_ended:
            logs.warning(
                f"what belongs to job={job.id} took too long; killed pid={child.pid}",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
        child.kill()
        child.wait(_SLACK)
        child.reap()

    # Between jobs.

    def tend(self) -> None:
        """Collect ended children. Does nothing when none is ending."""
        self._finished.tend()

    def rest(self) -> float:
        """There is no job. Seconds after which to check again whether all have ended."""
        pause = self._finished.rest()
        self._spares.tend()
        if self._spares.kin:
            left = self._used_at + _SPARE - time.monotonic()
            if left > 0:
                return min(left, pause)
            self._spares.dismiss()
        return pause

    def close(self) -> None:
        """The worker exits: end all children."""
        self._finished.close()
        self._spares.close()
