"""`/metrics`: what Prometheus scrapes, in a registry of its own. Runs in the server's thread."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loguru import logger
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from resqued import Arbiter, QueueCounts, QueueFacts, WorkerState, __version__
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.exposition import Histograms, escaped, head, number, samples
from resqued_plugins.http.tally import Tally

FRESH: Final = 1.0
"""Seconds for which the text is not made anew, however often it is asked for."""

MEMORY: Final = 60.0
"""Seconds for which the workers' memory is not read anew: that is a system call for each."""

OTHERS: Final = "(others)"
"""The label of all queues that are not counted by themselves."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SUMMED_UP: Final = re.compile(r"other \(\d+\)")  # the label must not change with their number
_OUTCOMES: Final = ("finished", "failed", "retried", "stopped", "interrupted")


class Metrics:
    """The text, and what of it is kept from one scrape to the next."""

    def __init__(self, arbiter: Arbiter, counts: Counts, tally: Tally) -> None:
        self._arbiter = arbiter
        self._counts = counts
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ArbiterCollector(arbiter, tally))
        ProcessCollector(registry=self._registry)
        self.application = Application()
        self._waits = Histograms(
            "resqued_job_wait_seconds",
            "Time from enqueueing to the start of a job.",
            QueueCounts.bounds,
        )
        self._runs = Histograms(
            "resqued_job_run_seconds", "Time that a job ran.", QueueCounts.bounds
        )
        self._made = -FRESH
        self._text = b""

    def text(self) -> bytes:
        """All metrics, at most FRESH seconds old."""
        now = time.monotonic()
        if now - self._made >= FRESH:
            own = generate_latest(self._registry)
            queues = "".join(
                [*self._queues(self._arbiter.queues), *self._jobs(self._counts.get(FRESH))]
            )
            self._text = own + queues.encode("utf-8", "replace") + self.application.text()
            self._made = now
        return self._text

    def _queues(self, queues: Mapping[str, QueueFacts]) -> Iterator[str]:
        facts = {
            OTHERS if _SUMMED_UP.fullmatch(queue) else queue: each for queue, each in queues.items()
        }
        for name, help, field in _QUEUE_GAUGES:
            yield head(name, "gauge", help)
            yield from samples(name, {queue: getattr(each, field) for queue, each in facts.items()})

    def _jobs(self, jobs: Mapping[str, QueueCounts]) -> Iterator[str]:
        counts = {queue or OTHERS: each for queue, each in jobs.items()}
        name = "resqued_jobs_started_total"
        yield head(name, "counter", "Jobs that workers have started.")
        yield from samples(name, {queue: each.started for queue, each in counts.items()})
        name = "resqued_jobs_total"
        yield head(name, "counter", "Jobs that have ended, by outcome.")
        for queue, each in counts.items():
            label = escaped(queue)
            for outcome in _OUTCOMES:
                value = number(getattr(each, outcome))
                yield f'{name}{{queue="{label}",outcome="{outcome}"}} {value}\n'
        yield self._waits.render({q: (each.waits, each.wait_sum) for q, each in counts.items()})
        yield self._runs.render({q: (each.runs, each.run_sum) for q, each in counts.items()})


_QUEUE_GAUGES: Final = (
    ("resqued_queue_waiting_jobs", "Jobs that wait in the queue.", "waiting"),
    (
        "resqued_queue_oldest_age_seconds",
        "Time that the job at the head of the queue has waited.",
        "oldest",
    ),
    ("resqued_queue_workers", "Workers that serve the queue.", "workers"),
    ("resqued_queue_busy_workers", "Workers with a job of the queue in hand.", "busy"),
    ("resqued_queue_paused", "1 while nothing is taken from the queue.", "paused"),
    (
        "resqued_queue_unserved",
        "1 while jobs wait in the queue and no living worker, on any host, serves it.",
        "unserved",
    ),
    ("resqued_queue_started_jobs", "Jobs of the queue that run now, on any host.", "started"),
    (
        "resqued_queue_limit_jobs",
        "Jobs of the queue that may run at once, on all hosts.",
        "limit",
    ),
    ("resqued_queue_scheduled_jobs", "Jobs of the queue that are scheduled.", "scheduled"),
    ("resqued_queue_failed_jobs", "Jobs in RQ's registry of failed ones.", "failed"),
)


class ArbiterCollector(Collector):
    """The families without a queue."""

    def __init__(self, arbiter: Arbiter, tally: Tally) -> None:
        self._arbiter = arbiter
        self._tally = tally
        self._memory: tuple[int, int] = (0, 0)
        self._memory_at = -MEMORY

    def collect(self) -> Iterator[Metric]:
        """Each family, with its samples of now."""
        arbiter, workers = self._arbiter, self._arbiter.workers
        yield InfoMetricFamily("resqued", "The release.", value={"version": __version__})
        by_state = GaugeMetricFamily("resqued_workers", "Workers by state.", labels=["state"])
        states = [worker.state for worker in workers]
        for state in WorkerState:
            by_state.add_metric([state.value], states.count(state))
        yield by_state
        yield _gauge("resqued_workers_wished", "The target number of workers.", arbiter.wished)
        yield _gauge("resqued_generation", "The generation in service.", arbiter.generation)
        yield self._state()
        exits = CounterMetricFamily(
            "resqued_worker_exits", "Workers that have left, by cause.", labels=["cause"]
        )
        for cause, count in sorted(self._tally.exits.copy().items()):
            exits.add_metric([cause], count)
        yield exits
        reloads = CounterMetricFamily(
            "resqued_reloads", "Reloads, by how they ended.", labels=["result"]
        )
        for result, count in sorted(self._tally.reloads.copy().items()):
            reloads.add_metric([result], count)
        yield reloads
        yield from self._redis()
        yield from self._schedule()
        delay = "The longest time of the last minute by which a turn of the loop was late."
        late = time.monotonic() - arbiter.loop.turned - 1.0
        longest = max(arbiter.loop.delay, late)
        yield _gauge("resqued_loop_delay_seconds", delay, longest)
        yield from self._resident([worker.pid for worker in workers if worker.pid is not None])

    def _state(self) -> Metric:
        family = GaugeMetricFamily(
            "resqued_state", "1 for the state that the arbiter is in.", labels=["state"]
        )
        for state in ("running", "resting", "draining", "stopping"):
            family.add_metric([state], float(self._arbiter.state == state))
        return family

    def _redis(self) -> Iterator[Metric]:
        redis = self._arbiter.redis
        up = "1 while Redis answers; 0 also while that is not known."
        yield _gauge("resqued_redis_up", up, redis is not None and redis.answers)
        if redis is None:
            return
        suspended = "1 while `rq suspend` is in force."
        yield _gauge("resqued_suspended", suspended, redis.suspended)
        if redis.round_trip is not None:
            name = "resqued_redis_round_trip_seconds"
            yield _gauge(name, "Time that Redis takes to answer.", redis.round_trip)

    def _schedule(self) -> Iterator[Metric]:
        schedule = self._arbiter.schedule
        if schedule is None:
            return
        moved = "Scheduled jobs that were due and that this arbiter has moved to their queues."
        yield CounterMetricFamily("resqued_scheduled_moved_jobs", moved, value=schedule.moved)
        if schedule.overdue is not None:
            overdue = "Time by which the first scheduled job is overdue."
            yield _gauge("resqued_scheduled_overdue_seconds", overdue, schedule.overdue)
        if (cron := schedule.cron) is None:
            return
        yield _gauge("resqued_cron_jobs", "Periodic jobs, of all arbiters.", cron.jobs)
        ticks = CounterMetricFamily(
            "resqued_cron_ticks", "Ticks of periodic jobs, of all arbiters.", labels=["result"]
        )
        for result in ("enqueued", "skipped", "missed"):
            ticks.add_metric([result], getattr(cron, result))
        yield ticks
        late = "Time by which a tick that is due is overdue: the most of all jobs."
        yield _gauge("resqued_cron_overdue_seconds", late, cron.late)
        lateness = "Time after its tick at which a job was enqueued: the most of the last ticks."
        yield _gauge("resqued_cron_lateness_seconds", lateness, cron.lateness)
        failing = "Periodic jobs whose last three runs have failed, at most ten."
        yield _gauge("resqued_cron_failing_jobs", failing, len(cron.failing))
        if cron.last_success is not None:
            name = "resqued_cron_last_success_timestamp_seconds"
            yield _gauge(name, "When a periodic job has finished last.", cron.last_success)

    def _resident(self, pids: list[int]) -> Iterator[Metric]:
        now = time.monotonic()
        if now - self._memory_at >= MEMORY:
            found = [resident for pid in pids if (resident := resident_of(pid)) is not None]
            self._memory, self._memory_at = (sum(found), max(found, default=0)), now
        total = "Resident memory of all workers; what they share counts in each."
        largest = "Resident memory of the largest worker."
        yield _gauge("resqued_workers_resident_bytes", total, self._memory[0])
        yield _gauge("resqued_largest_worker_resident_bytes", largest, self._memory[1])


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=float(value))


def resident_of(pid: int) -> int | None:
    """Bytes of a process's resident memory; None if it has gone. proc_pid_statm(5)."""
    try:
        statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(statm, 256).split()[1]) * _PAGE
        finally:
            os.close(statm)
    except (OSError, LookupError, ValueError):
        return None


class Application:
    """The application's own metrics, which its processes leave in PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self) -> None:
        self._complaint = ""
        self._left: deque[int] = deque(maxlen=10_000)  # pids

    def exited(self, pid: int | None) -> None:
        """A worker has left: its gauges of living processes are not served any more. Runs in the
        arbiter's loop."""
        if pid is not None and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            self._left.append(pid)

    def text(self) -> bytes:
        """Empty if the variable is not set, or the files cannot be read; then the log says so."""
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not folder:
            return b""
        try:
            mark: Any = mark_process_dead
            while self._left:
                mark(self._left.popleft(), folder)
            registry = CollectorRegistry()
            collector: Any = MultiProcessCollector
            collector(registry, path=folder)
            found = generate_latest(registry)
        except Exception as error:  # a worker may have been killed while it wrote
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                logger.warning(f"http: cannot read the metrics in {folder}: {complaint}")
            self._complaint = complaint
            return b""
        self._complaint = ""
        return found
