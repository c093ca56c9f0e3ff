"""The three systems under test, started and measured in the same way."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import psutil
import redis
from rq import Queue

from benchmarks import heavy
from harness import processes
from harness.command import COMMAND, environment
from harness.waiting import wait_for

QUEUE = "bench"


class System:
    """N workers that have the application loaded. Leave the `with` and nothing is left."""

    name = ""

    def __init__(self, workers: int, url: str, directory: Path) -> None:
        self.workers = workers
        self.url = url
        self.directory = directory
        self.connection: Any = redis.Redis.from_url(url)
        self._roots: list[subprocess.Popen[bytes]] = []
        self.seconds_to_ready = 0.0

    def commands(self) -> list[list[str]]:
        raise AssertionError("a system says how it is started")

    def __enter__(self) -> Self:
        self.connection.delete("rq:workers", f"rq:workers:{QUEUE}")
        began = time.monotonic()
        with (self.directory / "log").open("ab") as log:
            for command in self.commands():
                self._roots.append(
                    subprocess.Popen(
                        command,
                        cwd=self.directory,
                        env=environment(RQ_REDIS_URL=self.url),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        wait_for(
            lambda: len(self.names()) == self.workers, 300, f"{self.workers} {self.name} workers"
        )
        self.seconds_to_ready = time.monotonic() - began
        return self

    def __exit__(self, *exc: object) -> None:
        whole = self.processes()
        for root in self._roots:
            root.terminate()
        for root in self._roots:
            try:
                root.wait(60)
            except subprocess.TimeoutExpired:
                root.kill()
                root.wait()
        _, left = psutil.wait_procs(whole, timeout=10)
        for process in left:
            process.kill()
        self.connection.close()

    # What is measured.

    def names(self) -> set[str]:
        """The workers that have registered in RQ and wait for jobs."""
        return {key.decode() for key in self.connection.smembers("rq:workers")}

    def processes(self) -> list[psutil.Process]:
        return [
            each
            for root in self._roots
            for each in [psutil.Process(root.pid), *processes.descendants(root.pid)]
        ]

    def memory(self) -> int:
        """Sum of the PSS of all processes, in bytes."""
        return processes.memory_of([each.pid for each in self.processes()])

    def jobs_a_second(self, count: int) -> float:
        """How fast `count` jobs that do nothing are done, once all workers are waiting.

        The jobs are made first, aside, and then appear in the queue all at once.
        """
        queue = Queue("aside", connection=self.connection)
        queue.enqueue_many(
            [Queue.prepare_data(heavy.nothing, result_ttl=600) for _ in range(count)]
        )
        jobs = self.connection.lrange("rq:queue:aside", 0, -1)
        with self.connection.pipeline() as pipeline:
            for job_id in jobs:
                pipeline.hset(f"rq:job:{job_id.decode()}", "origin", QUEUE)
            pipeline.execute()
        self.connection.delete(f"rq:finished:{QUEUE}")
        began = time.monotonic()
        self.connection.rename("rq:queue:aside", f"rq:queue:{QUEUE}")
        self.wait_until_finished(count)
        return count / (time.monotonic() - began)

    def do_jobs(self, count: int) -> None:
        self.connection.delete(f"rq:finished:{QUEUE}")
        queue = Queue(QUEUE, connection=self.connection)
        queue.enqueue_many([Queue.prepare_data(heavy.look_up, (each,)) for each in range(count)])
        self.wait_until_finished(count)

    def wait_until_finished(self, count: int) -> None:
        wait_for(
            lambda: self.connection.zcard(f"rq:finished:{QUEUE}") >= count,
            300,
            f"{self.name} to finish {count} jobs",
        )

    def seconds_to_successor(self) -> float:
        """From SIGKILL of an idle worker until another has registered in its place."""
        before = self.names()
        victim = self._living(before)
        began = time.monotonic()
        psutil.Process(victim).kill()
        deadline = began + 120
        while time.monotonic() < deadline:
            if self.names() - before:
                return time.monotonic() - began
            time.sleep(0.0005)
        raise AssertionError(f"{self.name}: no successor in 120 s")

    def cpu_of_the_parent(self, seconds: float) -> float:
        """Share of one core that the process at the top uses while nothing happens."""
        root = psutil.Process(self._roots[0].pid)
        before = root.cpu_times()
        time.sleep(seconds)
        after = root.cpu_times()
        return max(0.0, sum(after[:2]) - sum(before[:2])) / seconds

    def _living(self, names: set[str]) -> int:
        """The pid of any worker; not always the same slot's, which would be backed off."""
        living = {each.pid for each in self.processes()}
        for key in random.sample(sorted(names), len(names)):
            pid = int(self.connection.hget(key, "pid") or 0)
            if pid in living:
                return pid
        raise AssertionError(f"{self.name}: no registered worker is alive")


class Resqued(System):
    name = "resqued"

    def commands(self) -> list[list[str]]:
        return [[COMMAND, "-q", "-n", str(self.workers), "--queue", QUEUE, "-r", heavy.__name__]]


class Pool(System):
    """`rq worker-pool`, which itself loads no application: a script imports it first."""

    name = "worker-pool"

    def commands(self) -> list[list[str]]:
        return [[sys.executable, "-m", "benchmarks.pool", self.url, QUEUE, str(self.workers)]]


class Separate(System):
    """`rq worker` N times; each loads the application before it is ready."""

    name = "rq worker"

    def commands(self) -> list[list[str]]:
        return [[sys.executable, "-m", "benchmarks.separate", self.url, QUEUE]] * self.workers
