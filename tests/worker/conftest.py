"""Real workers, forked from the test: what the fork server does, without one.

A `Crew` is a scoreboard, a doorbell and the workers forked onto it. Plugins given to `start`
run in the worker; `Pause` stops it at a point and tells the test.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy
import pytest
import redis

from harness.ledger import Ledger
from harness.server import Server
from harness.waiting import scaled, wait_for
from resqued import hookimpl, hookspecs
from resqued.broker.owner import owner_of
from resqued.config import Config
from resqued.death import Death
from resqued.forkserver.job_children import Offspring
from resqued.forkserver.notes import Notes
from resqued.linux import birth_ticks
from resqued.logs import logger
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import Order, Phase, Record, RecordWriter, Scoreboard, Stop
from resqued.signal_table import COMMAND, NOW
from resqued.worker.boot import Boot


class Hand:
    """One forked worker."""

    def __init__(self, crew: Crew, slot: int, pid: int, queues: tuple[str, ...]) -> None:
        self.crew, self.slot, self.pid, self.queues = crew, slot, pid, queues
        self.status: int | None = None

    @property
    def record(self) -> Record:
        return self.crew.board.read(self.slot)

    def reached(self, phase: Phase, timeout: float = 10) -> Record:
        wait_for(lambda: self.record.phase is phase, timeout, f"phase {phase.name}")
        return self.record

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def stop_now(self) -> None:
        """As the arbiter does."""
        self.crew.board.set_stop(self.slot, Stop.NOW)
        self.signal(NOW)

    def told(self, order: Order, reason: str = "") -> None:
        """What the arbiter passes on of a command, or a verdict, for the job in hand."""
        record = self.record
        execution = record.execution_id or record.token
        self.crew.board.set_order(self.slot, order, execution, reason)
        self.signal(COMMAND)

    def gone(self, timeout: float = 10) -> int:
        """Wait for its end; the status as os.wait4 gives it."""

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG) if self.status is None else (0, 0)
            if pid:
                self.status = status
            return self.status is not None

        wait_for(ended, timeout, f"worker {self.pid} to end, it is {self.record}")
        assert self.status is not None
        return self.status

    def kill(self) -> int:
        os.killpg(self.pid, signal.SIGKILL)
        return self.gone()

    def recovered(
        self,
        *,
        interrupted: bool = False,
        times: int = 1,
        order: Order = Order.NONE,
        failure: str = "",
    ) -> list[str]:
        """What `times` recoveries at once say; each in its own child, as in life.

        order: what the arbiter had passed on for the job in hand.
        """
        return self.begin_recovery(interrupted, times, order, failure)()

    def begin_recovery(
        self,
        interrupted: bool = False,
        times: int = 1,
        order: Order = Order.NONE,
        failure: str = "",
    ) -> Callable[[], list[str]]:
        """The same, without waiting for it."""
        assert self.status is not None
        record = replace(self.record, stopped=order or self.record.stopped)
        owner = owner_of(record, "host.test")
        death = Death(
            self.slot,
            self.status,
            {},
            record,
            self.queues,
            interrupted,
            "test",
            failure,
            owner=str(owner),
        )
        return self.crew.recover(death, times)


class Crew:
    """Forks workers and recoveries, and ends them all."""

    def __init__(self, server: Server, url: str, log: Path) -> None:
        self.server, self.url, self.log = server, url, log
        self.log.touch()
        self.board = Scoreboard.create()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.dumps = os.memfd_create("dumps")
        self.hands: list[Hand] = []
        self.settings: dict[str, Any] = {}

    def config(self) -> Config:
        return Config(**{"redis": self.url, **self.settings})

    def start(
        self,
        *queues: str,
        plugins: Sequence[object] = (),
        trial: bool = False,
        wait: bool = True,
        name: str = "",
        **settings: Any,
    ) -> Hand:
        """Fork a worker; returns when it is idle."""
        self.settings.update(settings)
        served = queues or ("default",)
        slot = len(self.hands) + 1
        self.board.set_stop(slot, Stop.NONE)
        record = Record(
            Phase.BOOTING,
            generation=1,
            serial=1,
            started=time.monotonic(),
            name=name or f"host.test.{slot}.1",
        )
        config, hooks = self.config(), hooks_of(plugins)

        def work() -> int:
            from resqued.worker.main import run

            writer = RecordWriter(self.board, slot, record)
            writer.update(pid=os.getpid())
            writer.update(ticks=birth_ticks(os.getpid()))
            forge = Offspring(Notes(self.dumps), self.dumps, lambda: writer.stop is Stop.NOW)
            boot = Boot(
                config, hooks, writer, served, trial, self.bell, self.dumps, "host.test", forge
            )
            return run(boot)

        hand = Hand(self, slot, self._fork(work), served)
        self.hands.append(hand)
        if wait:
            wait_for(lambda: hand.record.ready, 10, f"the worker to be ready, see {self.log}")
        return hand

    def recover(self, death: Death, times: int) -> Callable[[], list[str]]:
        config = self.config()
        readers = []
        for _ in range(times):
            read, write = os.pipe()

            def work(write: int = write) -> int:
                from resqued.worker.recovery import recover

                os.write(write, recover(config, hooks_of(()), death).encode())
                return 0

            pid = self._fork(work)
            os.close(write)
            readers.append((pid, read))

        def finish() -> list[str]:
            verdicts = []
            for pid, read in readers:
                ready, _, _ = select.select([read], [], [], scaled(20))
                verdicts.append(os.read(read, 100).decode() if ready else "late")
                os.close(read)
                if not ready:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return verdicts

        return finish

    def _fork(self, work: Callable[[], int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 99
        try:
            os.setpgid(0, 0)
            out = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout = sys.stderr = os.fdopen(
                2, "w", buffering=1, errors="backslashreplace", closefd=False
            )
            logger.remove()
            logger.add(sys.stderr, level="DEBUG")
            logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def run(self, work: Callable[[], int], meanwhile: Callable[[], object] = bool) -> None:
        """Do something in a child of its own; wait until it has come to its end."""
        pid = self._fork(work)
        meanwhile()
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"it has ended with status {status}"

    def close(self) -> None:
        for hand in self.hands:
            if hand.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(hand.pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(hand.pid, 0)
        os.close(self.bell)
        os.close(self.dumps)
        self.board.close()


def hooks_of(plugins: Sequence[object]) -> Hooks:
    plugin_manager = pluggy.PluginManager("resqued")
    plugin_manager.add_hookspecs(hookspecs)
    for plugin in plugins:
        plugin_manager.register(plugin)
    return Hooks(plugin_manager)


class Pause:
    """Stops the worker, in a hook, until the test opens the gate."""

    def __init__(self, gate: Any, point: str) -> None:
        self.gate, self.point = gate, point

    def _stop(self, point: str) -> None:
        if point == self.point:
            Path(f"{self.gate}.reached").write_text(str(os.getpid()))
            while not Path(str(self.gate)).exists():
                time.sleep(0.01)

    @hookimpl
    def before_job(self) -> None:
        self._stop("before_job")

    @hookimpl
    def after_job(self) -> None:
        self._stop("after_job")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    path = tmp_path / "ledger"
    monkeypatch.setenv("RESQUED_LEDGER", str(path))
    return Ledger(path)


@pytest.fixture
def crew(valkey: Server, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(valkey, valkey.url, tmp_path / "worker.log")
    yield crew
    crew.close()
    if crew.log.exists():
        print(crew.log.read_text())


def status_of(connection: redis.Redis, job_id: str) -> str:
    status = connection.hget(f"rq:job:{job_id}", "status")
    return status.decode() if status else ""


@pytest.fixture
def status(connection: redis.Redis) -> Callable[[str], str]:
    """`status(job.id)`: as RQ has it."""
    return lambda job_id: status_of(connection, job_id)


@pytest.fixture
def ends(connection: redis.Redis) -> Callable[..., str]:
    """`ends(job)`: wait until it has an outcome; which."""

    def ends(job: Any, timeout: float = 10) -> str:
        over = ("finished", "failed", "stopped", "scheduled", "canceled")
        return wait_for(
            lambda: (found := status_of(connection, job.id)) in over and found,
            timeout,
            f"job {job.id} to end",
        )

    return ends
