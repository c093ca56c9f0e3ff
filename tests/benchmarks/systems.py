"""The systems under test that run RQ's jobs, started and measured in the same way."""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, Self

import psutil
import redis
from rq import Queue

from benchmarks import heavy, older
from harness import processes
from harness.command import COMMAND, TESTS, environment
from harness.server import free_port
from harness.waiting import WaitedTooLong, wait_for

_numbers: Final = itertools.count(1)


class System:
    """N workers that have the application loaded. Leave the `with` and nothing is left."""

    name = ""
    env: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, workers: int, url: str, directory: Path, *, app: ModuleType = heavy, **settings: Any
    ) -> None:
        """url: a database of the system's own. settings: what `commands` makes of them."""
        self.workers = workers
        self.url = url
        self.directory = directory / f"{self.name}-{next(_numbers)}".replace(" ", "-")
        self.directory.mkdir()
        self.app = app
        self.settings = settings
        self.connection: Any = redis.Redis.from_url(url)
        # of a name of its own: who watches a key hears of that name in every database
        self.queue = f"bench-{url.rpartition('/')[2]}"
        self._roots: list[subprocess.Popen[bytes]] = []
        self.seconds_to_ready = 0.0

    def commands(self) -> list[list[str]]:
        raise AssertionError("a system says how it is started")

    def __enter__(self) -> Self:
        self.connection.delete("rq:workers", f"rq:workers:{self.queue}")
        began = time.monotonic()
        with (self.directory / "log").open("ab") as log:
            for command in self.commands():
                self._roots.append(
                    subprocess.Popen(
                        command,
                        cwd=self.directory,
                        env=environment(
                            RQ_REDIS_URL=self.url,
                            XDG_STATE_HOME=str(self.directory / "state"),
                            **self.env,
                        ),
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

    @property
    def root(self) -> int:
        """The pid of the process at the top."""
        return self._roots[0].pid

    def roles(self) -> dict[int, str]:
        """What each process is, by pid: `worker`, or what stands above workers. What a worker has
        started counts as a worker's."""
        roles: dict[int, str] = {}
        for each in self.processes():
            with contextlib.suppress(psutil.Error):
                roles[each.pid] = self.role(each) or roles.get(each.ppid(), "worker")
        return roles

    def role(self, process: psutil.Process) -> str:
        """Empty where it is that of the process's parent, if that has one."""
        return "parent" if process.pid == self.root else ""

    def processes(self) -> list[psutil.Process]:
        return [
            each
            for root in self._roots
            for each in [psutil.Process(root.pid), *processes.descendants(root.pid)]
        ]

    def memory(self) -> int:
        """Sum of the PSS of all processes, in bytes."""
        return processes.memory_of([each.pid for each in self.processes()])

    def do_jobs(self, count: int, seconds: float = 0.0) -> None:
        """Jobs that read a little of what the workers share, each taking so long."""
        self.connection.delete(f"rq:finished:{self.queue}")
        queue = Queue(self.queue, connection=self.connection)
        args = [(each, seconds) for each in range(count)]
        queue.enqueue_many([Queue.prepare_data(heavy.look_up, each) for each in args])
        self.wait_until_finished(count)

    def wait_until_finished(self, count: int) -> None:
        """Raises WaitedTooLong, and says where the jobs are."""
        try:
            wait_for(lambda: self.connection.zcard(f"rq:finished:{self.queue}") >= count, 300)
        except WaitedTooLong:
            waiting = self.connection.llen(f"rq:queue:{self.queue}")
            running, finished, failed = (
                self.connection.zcard(f"rq:{registry}:{self.queue}")
                for registry in ("wip", "finished", "failed")
            )
            raise WaitedTooLong(
                f"{self.name} has not finished {count} jobs in 300 s: {waiting} wait, "
                f"{running} run, {finished} have finished, {failed} have failed"
            ) from None

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

    def _living(self, names: set[str]) -> int:
        """The pid of any worker; not always the same slot's, which would be backed off."""
        living = {each.pid for each in self.processes()}
        for key in random.sample(sorted(names), len(names)):
            pid = int(self.connection.hget(key, "pid") or 0)
            if pid in living:
                return pid
        raise AssertionError(f"{self.name}: no registered worker is alive")


class Resqued(System):
    """settings: `command`, another one than that of this checkout; `words` after it."""

    name = "resqued"

    def commands(self) -> list[list[str]]:
        words: Sequence[str] = self.settings.get("words", ())
        command = str(self.settings.get("command", COMMAND))
        chosen = ["-n", str(self.workers), "--queue", self.queue, "-r", self.app.__name__]
        return [[command, *chosen, *words]]

    def role(self, process: psutil.Process) -> str:
        title = processes.title(process)
        return next((role for role in _ROLES if title.startswith(f"resqued: {role}")), "")


_ROLES = ("arbiter", "fork server", "steward", "worker")


class WithPlugins(Resqued):
    """With every plugin in examples/plugins."""

    name = "20 plugins"
    env: Mapping[str, str] = MappingProxyType({"PYTHONPATH": f"{TESTS}:{TESTS}/fakes"})

    def commands(self) -> list[list[str]]:
        folder = Path(TESTS).parent / "examples" / "plugins"
        words = [word for path in sorted(folder.glob("*.py")) for word in ("-p", str(path))]
        words += ["--prometheus-port", str(free_port())]
        return [[*command, *words] for command in super().commands()]


class WithPluginsAndTheirEnvironment(WithPlugins):
    """The same where the environment is as the plugins want it: then the fork server that is
    started early is kept."""

    name = "20 plugins, env set"
    env: Mapping[str, str] = MappingProxyType(
        {
            **WithPlugins.env,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
    )


class Older(Resqued):
    """The version in `older.NAME`, from an environment of its own: `command` in settings."""

    name = older.NAME


class Pool(System):
    """`rq worker-pool`, which itself loads no application: a script imports it first."""

    name = "worker-pool"
    worker_class = "rq.Worker"

    def commands(self) -> list[list[str]]:
        chosen = [self.url, self.queue, str(self.workers), self.app.__name__, self.worker_class]
        return [[sys.executable, "-m", "benchmarks.pool", *chosen]]


class SimplePool(Pool):
    """The pool whose workers run jobs in themselves."""

    name = "simple-pool"
    worker_class = "rq.SimpleWorker"


class Separate(System):
    """`rq worker` N times; each loads the application before it is ready."""

    name = "rq worker"

    def commands(self) -> list[list[str]]:
        command = [sys.executable, "-m", "benchmarks.separate", self.url, self.queue]
        return [[*command, self.app.__name__]] * self.workers

    def role(self, process: psutil.Process) -> str:
        return ""
