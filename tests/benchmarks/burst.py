"""Short bursts of jobs, taken in turn by systems that all stand ready: what disturbs one of them on
a machine shared with others disturbs its neighbour in time too, so their ratios stay true."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rq import Queue
from rq.queue import EnqueueData

from benchmarks.cost import Meter, Spent
from benchmarks.systems import System
from harness.waiting import WaitedTooLong

ASIDE = "aside"
WARM = 30
"""Jobs of the first burst."""


@dataclass(frozen=True)
class Burst:
    """What some executions of jobs took."""

    executions: int
    spent: Spent

    @property
    def rate(self) -> float:
        """A second."""
        return self.executions / self.spent.seconds

    def cpu(self, role: str) -> float:
        """Microseconds of an execution, of `worker`, `server`, ..., or of the whole `tree`."""
        seconds = self.spent.tree if role == "tree" else self.spent.cpu.get(role, 0.0)
        return seconds / self.executions * 1e6


class Load:
    """Jobs of one kind for one system: put aside, released all at once, and forgotten when done.

    make: the data of one job. executions: how often a job of it is run.
    """

    def __init__(
        self,
        system: System,
        server: int,
        make: Callable[[], EnqueueData],
        *,
        executions: int = 1,
        seconds: float,
    ) -> None:
        self.system, self._server = system, server
        self._make, self._executions, self._seconds = make, executions, seconds
        self._connection: Any = system.connection
        self._rate = 0.0
        self.bursts: list[Burst] = []

    def warm(self) -> None:
        """Bursts that do not count, but for how many jobs the others will have."""
        self._burst(WARM)
        for _ in range(2):
            self._rate = self._burst(self._jobs or WARM).rate

    def burst(self) -> None:
        self.bursts.append(self._burst(self._jobs))

    @property
    def _jobs(self) -> int:
        """That take about as long as a burst should; 0 before anything is known."""
        return math.ceil(self._rate * self._seconds / self._executions)

    def round_trips(self, background: float, jobs: int) -> float:
        """Of an execution: what so many executions more have the server read.

        background: how often it reads in a second while nothing happens.
        """
        few, many = (self._burst(count) for count in (jobs, 3 * jobs))
        reads = [burst.spent.reads - background * burst.spent.seconds for burst in (few, many)]
        return (reads[1] - reads[0]) / (many.executions - few.executions)

    def figures(self, read: Callable[[Burst], float]) -> list[float]:
        return [read(burst) for burst in self.bursts]

    def _burst(self, jobs: int) -> Burst:
        self._put_aside(jobs)
        meter = Meter(self.system, self._server, self._connection)
        self._connection.rename(f"rq:queue:{ASIDE}", f"rq:queue:{self.system.queue}")
        questions, ended = self._wait(jobs)
        burst = Burst(jobs * self._executions, meter.read(questions + 1, ended))
        self._forget()
        return burst

    def _put_aside(self, jobs: int) -> None:
        queue = Queue(ASIDE, connection=self._connection)
        for begin in range(0, jobs, 500):
            made = queue.enqueue_many([self._make() for _ in range(min(500, jobs - begin))])
            with self._connection.pipeline(transaction=False) as pipeline:
                for job in made:
                    pipeline.hset(job.key, "origin", self.system.queue)
                pipeline.execute()

    def _wait(self, jobs: int) -> tuple[int, float]:
        """Until the last execution has been recorded; how often that was asked, and when it was so.

        Asked seldom before the end comes near: each question costs the server some of its own.
        """
        questions, held, ended = 0, 0, 0.0
        deadline = time.monotonic() + 300
        while held < 2:  # a job that is being taken may be in neither place for a moment
            now = time.monotonic()
            questions += 1
            waiting, running, done = self._count()
            if not waiting and not running and done >= jobs:
                ended = ended if held else now
                held += 1
            else:
                held = 0
            if now > deadline:
                raise WaitedTooLong(
                    f"{self.system.name} has not done {jobs} jobs in 300 s: {waiting} wait, "
                    f"{running} run, {done} have ended"
                )
            time.sleep(0.01 if waiting > jobs / 20 else 0.001)
        return questions, ended

    def _count(self) -> tuple[int, int, int]:
        """Jobs that wait, that run, and that have ended or will be retried later."""
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.llen(f"rq:queue:{self.system.queue}")
            pipeline.zcard(f"rq:wip:{self.system.queue}")
            for registry in _ENDS:
                pipeline.zcard(f"{registry}:{self.system.queue}")
            waiting, running, *ended = pipeline.execute()
        return waiting, running, sum(ended)

    def _forget(self) -> None:
        """The database stays small: what has ended is deleted."""
        registries = [f"{registry}:{self.system.queue}" for registry in _ENDS]
        with self._connection.pipeline(transaction=False) as pipeline:
            for registry in registries:
                for job_id in self._connection.zrange(registry, 0, -1):
                    pipeline.delete(b"rq:job:" + job_id, b"rq:results:" + job_id)
            pipeline.delete(*registries)
            pipeline.execute()


_ENDS = ("rq:finished", "rq:failed", "rq:scheduled")


def in_turn(loads: Sequence[Load], rounds: int) -> None:
    """So many bursts of each, forth and back, after one that does not count."""
    for load in loads:
        load.warm()
    for number in range(rounds):
        for load in loads if number % 2 == 0 else loads[::-1]:
            load.burst()
