"""Scheduled jobs: how many a second, how late, and at what cost, beside RQ's scheduler."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import redis
from rq import Queue
from rq.scheduler import RQScheduler

from benchmarks.report import Check, Spread, at_least, at_most
from harness import jobs, processes
from harness.command import Resqued, environment
from harness.server import Server
from harness.waiting import wait_for
from resqued.broker.schedule import DueJobs

QUEUE, REGISTRY = "q", "rq:scheduled:q"
BATCH = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--due", type=int, default=20_000, help="jobs that are moved")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=1_000_000, help="jobs that wait")
    parser.add_argument("--seconds", type=int, default=60, help="for which the CPU is measured")
    parser.add_argument("--late", type=int, default=100, help="jobs whose delay is measured")
    parser.add_argument("--cron", type=int, default=1000, help="periodic jobs, each minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resqued-scheduling-") as name:
        server = Server(Path(name))
        server.start()
        try:
            connection = server.connect()
            moved_a_second(connection, options.due, options.rounds)
            late(server, Path(name), options.late)
            for waiting in (10_000, options.many):
                cost(server, Path(name), waiting, options.seconds)
            taken_over(server, Path(name))
            periodic(server, Path(name), options.cron)
        finally:
            server.close()


def fill(connection: redis.Redis, count: int, score: Callable[[int], float]) -> None:
    """Schedule so many plain jobs."""
    connection.flushall()
    job = Queue(QUEUE, connection=connection).enqueue_in(timedelta(days=9), jobs.noop)
    fields = connection.hgetall(job.key)
    connection.delete(job.key, REGISTRY)
    for first in range(0, count, BATCH):
        with connection.pipeline(transaction=False) as pipeline:
            for number in range(first, min(first + BATCH, count)):
                pipeline.hset(f"rq:job:j{number}", mapping=fields)
                pipeline.zadd(REGISTRY, {f"j{number}": score(number)})
            pipeline.execute()


def moved_a_second(connection: redis.Redis, due: int, rounds: int) -> None:
    """In the same process, in turns, all jobs due at once."""
    rates: dict[str, list[float]] = {"resqued": [], "RQScheduler": []}
    waits: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, move in (("resqued", _ours), ("RQScheduler", _theirs)):
            fill(connection, due, lambda number: 1)
            with _Pings(connection) as pings:
                began = time.perf_counter()
                move(connection)
                rates[name].append(due / (time.perf_counter() - began))
            waits[name].append(pings.longest)
            assert connection.llen(f"rq:queue:{QUEUE}") == due
    for name, found in rates.items():
        print(
            f"{name}: {statistics.median(found):.0f} due jobs moved a second;"
            f" another client waited {1000 * statistics.median(waits[name]):.1f} ms at most"
        )
    print(Check("resqued, due jobs moved a second", Spread.of(rates["resqued"]), at_least(60_000)))
    print(Check("longest wait of another client, s", Spread.of(waits["resqued"]), at_most(0.005)))


def _ours(connection: redis.Redis) -> None:
    due = DueJobs(connection, "benchmark", 15.0)
    due.look([QUEUE])
    while not due.move(QUEUE).is_empty:
        pass


def _theirs(connection: redis.Redis) -> None:
    """Without its pause of a second after each thousand."""
    scheduler = RQScheduler([QUEUE], connection=connection, logging_level="WARNING")
    scheduler._connection = connection
    scheduler.acquire_locks()
    while connection.exists(REGISTRY):
        scheduler.enqueue_scheduled_jobs()


class _Pings:
    """Another client, which asks for little all the time, and notes the longest wait."""

    def __init__(self, connection: redis.Redis) -> None:
        self.longest = 0.0
        self._connection = redis.Redis(connection_pool=connection.connection_pool)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Pings:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            began = time.perf_counter()
            self._connection.ping()
            self.longest = max(self.longest, time.perf_counter() - began)


def late(server: Server, directory: Path, count: int) -> None:
    """From the second in which a job is due until it is in its queue, with an idle arbiter."""
    found: dict[str, list[float]] = {}
    for name, start in (("resqued", _resqued), ("rq worker --with-scheduler", _worker)):
        connection = server.connect()
        connection.flushall()
        stop = start(server, directory)
        _wait_for_lock(connection)
        queue = Queue(QUEUE, connection=connection)
        delays = []
        for number in range(count):
            time.sleep(0.013 * (number % 7))
            job = queue.enqueue_in(timedelta(seconds=1), jobs.noop)
            due = connection.zscore(REGISTRY, job.id)
            wait_for(lambda job=job: job.get_status() == "finished", 30, "the job")
            job.refresh()
            delays.append(job.enqueued_at.timestamp() - due)
        stop()
        found[name] = delays
        ranked = statistics.quantiles(delays, n=100, method="inclusive")
        print(f"{name}: due to queued p50 {ranked[49]:.3f} s, p99 {ranked[98]:.3f} s")
    ours = statistics.quantiles(found["resqued"], n=100, method="inclusive")
    print(Check("resqued, due to queued p50, s", Spread.of([ours[49]]), at_most(0.02)))
    print(Check("resqued, due to queued p99, s", Spread.of([ours[98]]), at_most(0.1)))


def _wait_for_lock(connection: redis.Redis) -> None:
    wait_for(lambda: connection.exists(f"rq:scheduler-lock:{QUEUE}"), 30, "a scheduler")


def _resqued(server: Server, directory: Path) -> Callable[[], object]:
    words = ["-n", "1", "--queue", QUEUE]
    arbiter = Resqued(
        words, directory=directory, env={"RQ_REDIS_URL": server.url}, expect_errors="."
    )
    arbiter.wait_for_workers(1)
    return arbiter.stop


def _worker(server: Server, directory: Path) -> Callable[[], object]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rq.cli", "worker", "--with-scheduler", "--url", server.url, QUEUE],
        env=environment(),
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.terminate()
        process.wait(30)

    return stop


def cost(server: Server, directory: Path, waiting: int, seconds: int) -> None:
    """CPU of the steward with so many jobs scheduled, of which ten a second are due."""
    connection = server.connect()
    now = time.time() + 20
    fill(connection, waiting, lambda number: int(now + number / 10))
    arbiter = Resqued(
        ["-n", "1", "--queue", QUEUE],
        directory=directory,
        env={"RQ_REDIS_URL": server.url},
        expect_errors=".",
    )
    try:
        arbiter.wait_for_workers(1)
        steward = psutil.Process(arbiter.wait_for_steward().pid)
        time.sleep(max(0.0, now + 2 - time.time()))
        before, began = sum(steward.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds)
        used = (sum(steward.cpu_times()[:2]) - before) / (time.monotonic() - began)
    finally:
        arbiter.stop()
    print(f"{waiting} scheduled, 10 due a second: the steward takes {100 * used:.2f} % of a core")


def taken_over(server: Server, directory: Path) -> None:
    """How long scheduling stands still after a SIGKILL: of the steward, of a whole machine."""
    connection = server.connect()
    connection.flushall()
    queue = Queue(QUEUE, connection=connection)
    for of in ("the steward", "the whole arbiter"):
        words = ["-n", "1", "--queue", QUEUE]
        first = Resqued(
            words, directory=directory, env={"RQ_REDIS_URL": server.url}, expect_errors="."
        )
        first.wait_for_workers(1)
        steward = first.wait_for_steward()
        _wait_for_lock(connection)
        whole = [*processes.descendants(first.pid), psutil.Process(first.pid)]
        for process in [steward] if of == "the steward" else whole:
            process.kill()
        began = time.monotonic()
        job = queue.enqueue_in(timedelta(0), jobs.noop)
        running = first
        if of != "the steward":
            running = Resqued(
                words, directory=directory, env={"RQ_REDIS_URL": server.url}, expect_errors="."
            )
        wait_for(lambda job=job: job.get_status() != "scheduled", 90, "the job to be moved")
        print(f"after SIGKILL of {of} scheduling goes on after {time.monotonic() - began:.1f} s")
        wait_for(lambda job=job: job.is_finished, 30, "the job")
        running.stop()


def periodic(server: Server, directory: Path, count: int) -> None:
    """So many periodic jobs each minute: how late the last is, and the CPU between, beside `rq
    cron`."""
    (directory / "crontab.py").write_text(
        "from rq import cron\n"
        f"for number in range({count}):\n"
        "    cron.register(__import__('harness.jobs').jobs.noop, 'c', cron='* * * * *',"
        " name=f'j{number}')\n"
    )
    connection = server.connect()
    for name, start in (("resqued", _resqued_cron), ("rq cron", _rq_cron)):
        connection.flushall()
        process, stop = start(server, directory)
        time.sleep(60 - time.time() % 60 + 5)  # the first tick is over
        before = sum(process.cpu_times()[:2])
        time.sleep(50)
        used = (sum(process.cpu_times()[:2]) - before) / 50
        time.sleep(60 - time.time() % 60 + 5)
        scores = [
            connection.zrange(f"rq:cron_job:j{number}:jobs", -1, -1, withscores=True)[0][1] % 60
            for number in range(count)
        ]
        stop()
        print(
            f"{name}: {count} periodic jobs enqueued {min(scores):.3f} to {max(scores):.3f} s after"
            f" their tick; {100 * used:.3f} % of a core between"
        )
        if name == "resqued":
            print(Check("the last periodic job, s", Spread.of([max(scores)]), at_most(0.5)))
            print(Check("CPU between, of a core", Spread.of([used]), at_most(0.002)))


def _resqued_cron(server: Server, directory: Path) -> tuple[psutil.Process, Callable[[], object]]:
    arbiter = Resqued(
        ["-n", "1", "--queue", QUEUE, "--cron", "crontab"],
        directory=directory,
        env={"RQ_REDIS_URL": server.url},
        expect_errors=".",
    )
    arbiter.wait_for_workers(1)
    found = wait_for(
        lambda: [
            each
            for each in processes.descendants(arbiter.pid)
            if processes.title(each).startswith("resqued: duties")
        ],
        30,
        "the duties process",
    )
    return found[0], arbiter.stop


def _rq_cron(server: Server, directory: Path) -> tuple[psutil.Process, Callable[[], object]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rq.cli", "cron", "--url", server.url, "crontab.py"],
        env=environment(),
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.terminate()
        process.wait(30)

    return psutil.Process(process.pid), stop


if __name__ == "__main__":
    main()
