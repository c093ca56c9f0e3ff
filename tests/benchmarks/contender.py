"""Another job queue with its workers and a producer, started and measured like RQ's systems."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import redis

from benchmarks.environments import HERE, made, versions
from harness import processes
from harness.command import environment
from harness.waiting import WaitedTooLong, stays_true

APPS = HERE / "apps_of_peers"


@dataclass(frozen=True)
class Peer:
    """How one of them is installed, started and asked."""

    name: str
    packages: tuple[str, ...]
    start: tuple[str, ...]
    """The command of workers; `N` stands for their number."""
    done: Callable[[Any, Any, int], bool]
    """Whether so many jobs have ended, of the clients of its broker and of its results."""
    each: bool = False
    """The command starts one worker and is started N times."""


def _by_results(broker: Any, results: Any, jobs: int) -> bool:
    return bool(results.dbsize() >= jobs)


def _by_hash(broker: Any, results: Any, jobs: int) -> bool:
    return bool(broker.hlen("huey.results.bench") >= jobs)


def _by_queue(broker: Any, results: Any, jobs: int) -> bool:
    return bool(broker.zcard("arq:queue") == 0)  # a job leaves it when its result is there


PEERS = {
    peer.name: peer
    for peer in (
        Peer("arq", ("arq",), ("arq", "app_arq.WorkerSettings"), _by_queue, each=True),
        Peer(
            "celery",
            ("celery[redis]",),
            (*["celery", "-A", "app_celery", "worker", "-P", "prefork", "-l", "error", "-c"], "N"),
            _by_results,
        ),
        Peer(
            "dramatiq",
            ("dramatiq[redis]",),
            ("dramatiq", "app_dramatiq", "--processes", "N"),
            _by_results,
        ),
        Peer(
            "huey",
            ("huey", "redis"),
            (*["huey_consumer", "app_huey.huey", "-q", "-k", "process", "-w"], "N"),
            _by_hash,
        ),
        Peer(
            "taskiq",
            ("taskiq", "taskiq-redis"),
            (*["taskiq", "worker", "app_taskiq:broker", "--log-level", "ERROR", "--workers"], "N"),
            _by_results,
        ),
    )
}


class Contender:
    """One peer with so many workers, in two databases of a server. Leave the `with`, and nothing
    of it is left."""

    def __init__(self, peer: Peer, workers: int, urls: Sequence[str], directory: Path) -> None:
        self.name, self._peer, self._workers = peer.name, peer, workers
        self._bin = made(f".venv-peers/{peer.name}", *peer.packages)
        self._directory = directory / f"{peer.name}-{workers}"
        self._directory.mkdir()
        self._env = environment(BROKER=urls[0], RESULTS=urls[1], PYTHONPATH=str(APPS))
        self._broker, self._results = (redis.Redis.from_url(url) for url in urls)
        self._roots: list[subprocess.Popen[bytes]] = []
        self._rate = 0.0
        self.rates: list[float] = []

    @property
    def version(self) -> str:
        return versions(self._bin, [self.name])

    def __enter__(self) -> Self:
        words = [str(self._workers) if word == "N" else word for word in self._peer.start]
        command = [str(self._bin / words[0]), *words[1:]]
        with (self._directory / "log").open("ab") as log:
            for _ in range(self._workers if self._peer.each else 1):
                root = subprocess.Popen(
                    command,
                    cwd=self._directory,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                self._roots.append(root)
        producer = [str(self._bin / "python"), str(APPS / "producer.py"), f"app_{self.name}"]
        self._producer = subprocess.Popen(
            producer,
            cwd=self._directory,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._producer.stdin
        assert self._producer.stdout
        self._producer.stdin.close()
        self._producer.wait(30)
        self._producer.stdout.close()
        whole = self._processes()
        for root in self._roots:
            root.terminate()
        _, left = psutil.wait_procs(whole, timeout=15)
        for process in left:
            process.kill()
        for root in self._roots:
            root.wait()
        self._broker.close()
        self._results.close()

    def warm(self, jobs: int) -> None:
        """Until all its processes are there and work; two bursts that do not count."""
        self._burst(1)
        count = len(self._processes())
        stays_true(lambda: len(self._processes()) >= count, 1, f"{self.name} to lose no process")
        self._burst(jobs)
        self._rate = self._burst(jobs)

    def burst(self, seconds: float) -> None:
        self.rates.append(self._burst(max(1, int(self._rate * seconds))))

    def _burst(self, jobs: int) -> float:
        """Jobs a second. They are enqueued while all its processes are stopped by a signal."""
        whole = self._processes()
        self._signal(whole, signal.SIGSTOP)
        try:
            self._enqueue(jobs)
            began = time.monotonic()
        finally:
            self._signal(whole, signal.SIGCONT)
        while not self._peer.done(self._broker, self._results, jobs):
            if time.monotonic() - began > 120:
                log = (self._directory / "log").read_text()[-2000:]
                raise WaitedTooLong(f"{self.name} has not done {jobs} jobs in 120 s: {log}")
            time.sleep(0.003)
        rate = jobs / (time.monotonic() - began)
        self._forget()
        return rate

    def _enqueue(self, jobs: int) -> None:
        assert self._producer.stdin
        assert self._producer.stdout
        self._producer.stdin.write(f"{jobs}\n")
        self._producer.stdin.flush()
        assert self._producer.stdout.readline() == "enqueued\n", f"{self.name} cannot enqueue"

    def _forget(self) -> None:
        self._results.flushdb()
        kept = [*self._broker.scan_iter("arq:result:*", count=1000), "huey.results.bench"]
        self._broker.delete(*kept)

    def _processes(self) -> list[psutil.Process]:
        return [
            each
            for root in self._roots
            for each in [psutil.Process(root.pid), *processes.descendants(root.pid)]
        ]

    def _signal(self, whole: Sequence[psutil.Process], signum: signal.Signals) -> None:
        for process in whole:
            os.kill(process.pid, signum)
