"""systemd: tells the service manager how the service is doing (sd_notify(3)), for `Type=notify`.

Loaded by itself where systemd asks for it (NOTIFY_SOCKET). READY comes when the workers are ready,
and when only Redis is missing; RELOADING when a reload begins, whoever asked for it, and READY
again also after a refused one, with the refusal in the status; WATCHDOG at half of WATCHDOG_USEC,
only while the arbiter's loop turns. Starts, reloads and drains that make progress ask for more
time. Fork servers and workers do not see these variables.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable
from typing import Final

from resqued import Arbiter, Worker, WorkerState, hookimpl

AUTOLOAD = bool(os.environ.get("NOTIFY_SOCKET"))

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

WITHOUT_REDIS: Final = 5.0
"""Seconds for which all workers wait for Redis, until the service is ready all the same."""

EXTENSION: Final = 30.0
"""Seconds that are asked for while a start, a reload or a drain makes progress, every third of
them."""

LONGEST: Final = 200
"""Characters of a status."""


class NotifiedState:
    """What systemd was told last."""

    def __init__(self) -> None:
        self.ready = False
        self.reloading = False
        self.stopping = False
        self.error = ""
        self.status = ""
        self.waiting_since: float | None = None
        self.watchdog_at = self.extend_at = 0.0
        self.progress = ArbiterProgress()

    @property
    def changing(self) -> bool:
        """A start, a reload or a stop is under way."""
        return not self.ready or self.reloading or self.stopping


class ArbiterProgress:
    """Whether what is under way goes on."""

    def __init__(self) -> None:
        self._seen: tuple[object, ...] = ()

    def since_last(self, arbiter: Arbiter, now: float) -> bool:
        """Whether something has changed since the last call, or will within a known time."""
        workers = arbiter.workers
        seen = (arbiter.state, arbiter.generation, *sorted(map(_advance, workers)))
        changed, self._seen = seen != self._seen, seen
        if arbiter.state in ("draining", "stopping"):
            return changed or any(_is_in_time(worker, now) for worker in workers)
        return changed or arbiter.reloading or _is_booting(workers)


def _advance(worker: Worker) -> tuple[int, int, str]:
    """What changes as a worker comes up, works and leaves."""
    return worker.pid or 0, worker.jobs, worker.state.value


def _is_in_time(worker: Worker, now: float) -> bool:
    """Whether its job is within its timeout, or the time after which it is killed."""
    if worker.job_started is None or worker.timeout is None:
        return False
    return now - worker.job_started < worker.timeout + worker.config.kill_after


def _is_booting(workers: Iterable[Worker]) -> bool:
    """Whether workers, or the first fork server, are within the boot timeout, which ends them."""
    early = (WorkerState.FORKING, WorkerState.BOOTING)
    states = [worker.state for worker in workers]
    return not states or any(state in early for state in states)


service = NotifiedState()


def notify(*lines: str) -> None:
    """Send the lines; a service manager that does not listen is no reason to fail."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with contextlib.suppress(OSError):
            sender.sendto("\n".join(lines).encode(), address)


@hookimpl
def fork_server_env(env: dict[str, str]) -> None:
    for name in VARIABLES:
        env.pop(name, None)


@hookimpl
def arbiter_ready(arbiter: Arbiter, reason: str, error: str | None) -> None:
    if reason == "reload" and service.ready and not service.reloading:
        tell_reloading()  # it was over before a tick has seen it
    service.ready, service.reloading = True, False
    service.error = f"reload refused: {(error.splitlines() or [''])[0]}" if error else ""
    service.status = describe(arbiter)
    notify("READY=1", f"STATUS={service.status}")


@hookimpl(tryfirst=True)
def signal_received(arbiter: Arbiter, signame: str) -> None:
    if signame == "HUP" and service.ready and arbiter.state in ("running", "resting"):
        tell_reloading()


@hookimpl
def arbiter_stopping(arbiter: Arbiter, graceful: bool, dropped: bool) -> None:
    if not dropped:
        service.stopping = True
        notify("STOPPING=1", f"STATUS={'draining' if graceful else 'stopping'}")


@hookimpl
def tick(arbiter: Arbiter, now: float) -> None:
    lines = []
    if not service.ready and waits_for_redis(arbiter, now):
        service.ready = True
        lines.append("READY=1")
    elif service.ready and not service.stopping and arbiter.reloading != service.reloading:
        if arbiter.reloading:
            tell_reloading()
        else:  # another plugin has dealt with the signal
            service.reloading = False
            lines.append("READY=1")
    status = describe(arbiter)
    if status != service.status:
        service.status = status
        lines.append(f"STATUS={status}")
    if service.changing and now >= service.extend_at:
        service.extend_at = now + EXTENSION / 3
        if service.progress.since_last(arbiter, now):
            lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")
    every = watchdog_seconds()
    if every and now >= service.watchdog_at:
        service.watchdog_at = now + every
        lines.append("WATCHDOG=1")
    if lines:
        notify(*lines)


def tell_reloading() -> None:
    """In one datagram, as `Type=notify-reload` wants it."""
    service.reloading = True
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def waits_for_redis(arbiter: Arbiter, now: float) -> bool:
    """Whether all workers have come up, and have waited for Redis for a while."""
    workers = arbiter.workers
    waiting = [worker for worker in workers if worker.state is WorkerState.CONNECTING]
    if not workers or len(waiting) < len(workers):
        service.waiting_since = None
        return False
    service.waiting_since = service.waiting_since or now
    return now - service.waiting_since >= WITHOUT_REDIS


def describe(arbiter: Arbiter) -> str:
    """`32/32 workers, 3 busy, redis ok`, and what is wrong."""
    states = [worker.state for worker in arbiter.workers]
    up = sum(state in (WorkerState.IDLE, WorkerState.BUSY) for state in states)
    text = f"{up}/{arbiter.wished} workers, {states.count(WorkerState.BUSY)} busy"
    redis = arbiter.redis  # None: not known yet
    if redis is not None:
        text += ", redis ok" if redis.answers else ", redis does not answer"
    parts = [text]
    if arbiter.state != "running":
        parts.append(arbiter.state)
    if service.error:
        parts.append(service.error)
    return "; ".join(parts)[:LONGEST]


def watchdog_seconds() -> float:
    """Half of what systemd waits for; 0 if it does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 2e6
