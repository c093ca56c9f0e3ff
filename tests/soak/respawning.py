"""Ending workers by the thousand, and looking at what that leaves in those who replace them."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import redis
from rq import Queue

from harness import jobs, processes
from harness.command import Resqued
from harness.waiting import wait_for
from resqued.scoreboard import Phase, Scoreboard

_BATCH = 200
"""Jobs that are always waiting; each ends the worker that does it (`--max-jobs 1`)."""

_SHARE = 0.03
"""Of the workers, how many are killed instead. A slot that is killed often is backed off."""


@dataclass(frozen=True)
class Look:
    """One process at one moment. Memory in bytes."""

    descriptors: int
    threads: int
    children: int
    zombies: int
    resident: int
    proportional: int

    @classmethod
    def at(cls, pid: int) -> Look:
        process = psutil.Process(pid)
        children = process.children()
        return cls(
            descriptors=process.num_fds(),
            threads=process.num_threads(),
            children=len(children),
            zombies=sum(map(processes.is_zombie, children)),
            resident=process.memory_info().rss,
            proportional=processes.memory_of([pid]),
        )

    @property
    def counts(self) -> dict[str, int]:
        """What has to be the same afterwards; the rest is memory, which may differ a little."""
        return dict(list(asdict(self).items())[:4])


@dataclass(frozen=True)
class Sample:
    """Arbiter and fork server after so many respawns."""

    respawns: int
    arbiter: Look
    fork_server: Look


class Mill:
    """A running resqued with `--max-jobs 1`, whose workers are made to end all the time."""

    def __init__(self, arbiter: Resqued, workers: int, connection: redis.Redis) -> None:
        self.arbiter, self.workers, self.connection = arbiter, workers, connection
        self._queue = Queue(connection=connection)
        arbiter.wait_for_workers(workers, timeout=60)
        self._board = _scoreboard_of(arbiter.pid)
        self.quiet()
        (self.fork_server,) = arbiter.fork_servers()
        self._kills = dict.fromkeys(range(1, workers + 1), 0)
        self._first = self._serial()

    @property
    def respawns(self) -> int:
        """Workers forked since the start, but for the first ones."""
        return self._serial() - self._first

    def _serial(self) -> int:
        return max(self._board.read(slot).serial for slot in range(1, self.workers + 1))

    def look(self) -> Sample:
        return Sample(self.respawns, Look.at(self.arbiter.pid), Look.at(self.fork_server.pid))

    def quiet(self) -> None:
        """Have no job left, all workers idle, and neither a zombie nor a recovery left."""
        self.connection.delete(self._queue.key)
        self.arbiter.wait_for_workers(self.workers, timeout=60)  # one may be backing off
        wait_for(self._settled, 20, "zombies and recoveries to be gone")

    def _settled(self) -> bool:
        (fork_server,) = self.arbiter.fork_servers()
        looks = [Look.at(self.arbiter.pid), Look.at(fork_server.pid)]
        expected = [(1, 0), (self.workers + 1, 0)]  # the fork server's are workers and the steward
        # One that has done its job is about to leave, and one that has a job is about to do it.
        records = [self._board.read(slot) for slot in range(1, self.workers + 1)]
        fresh = all(record.phase is Phase.IDLE and not record.done for record in records)
        return fresh and [(look.children, look.zombies) for look in looks] == expected

    def grind(self, respawns: int) -> None:
        """Replace so many more workers; jobs are left in the queue."""
        goal = self.respawns + respawns
        while (done := self.respawns) < goal:
            self._feed()
            self._kill_one()
            # longer than a slot may be backed off
            wait_for(lambda done=done: self.respawns > done, 40, "another worker")

    def _feed(self) -> None:
        if self._queue.count < _BATCH:
            job = Queue.prepare_data(jobs.nothing, result_ttl=0, failure_ttl=1)
            self._queue.enqueue_many([job] * _BATCH)

    def _kill_one(self) -> None:
        """Now and then that of the least killed slot; not while half of them are backed off."""
        if self.killed >= self.respawns * _SHARE:
            return
        children = {child.pid for child in self.fork_server.children()}
        pids = {slot: self._board.read(slot).pid for slot in self._kills}
        living = [slot for slot, pid in pids.items() if pid in children]
        if len(living) * 2 <= self.workers:
            return
        victim = min(living, key=lambda slot: self._kills[slot])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[victim], signal.SIGKILL)
            self._kills[victim] += 1

    @property
    def killed(self) -> int:
        return sum(self._kills.values())

    def close(self) -> None:
        self._board.close()


def _scoreboard_of(pid: int) -> Scoreboard:
    """As `--status` opens it."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if "resqued-scoreboard" in str(link.readlink()):
            return Scoreboard(os.open(link, os.O_RDONLY | os.O_CLOEXEC), writable=False)
    raise AssertionError("the arbiter has no scoreboard")
