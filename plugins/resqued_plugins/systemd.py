"""systemd: tells the service manager how the service is doing (sd_notify(3)), for `Type=notify`.

Loaded by itself where systemd asks for it (NOTIFY_SOCKET). READY comes when the workers are ready,
and when only Redis is missing; RELOADING on HUP, and READY again also after a refused reload, with
the refusal in the status; WATCHDOG at half of WATCHDOG_USEC, only while the arbiter's loop turns.
Slow starts, reloads and drains ask for more time as long as the loop turns. Fork servers and
workers do not see these variables.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from resqued import Arbiter, WorkerState, hookimpl

AUTOLOAD = bool(os.environ.get("NOTIFY_SOCKET"))

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

WITHOUT_REDIS = 5.0
"""Seconds for which all workers wait for Redis, until the service is ready all the same."""

EXTENSION = 30.0
"""Seconds that are asked for while a start, a reload or a drain goes on, every third of them."""


class Service:
    """What systemd was told last."""

    def __init__(self) -> None:
        self.ready = False
        self.changing = True  # a start, a reload or a stop is under way
        self.error = ""
        self.status = ""
        self.waiting_since: float | None = None
        self.watchdog_at = self.extend_at = 0.0


service = Service()


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
    service.ready, service.changing = True, False
    service.error = f"reload refused: {error.splitlines()[0]}" if error else ""
    service.status = describe(arbiter)
    notify("READY=1", f"STATUS={service.status}")


@hookimpl(tryfirst=True)
def signal_received(arbiter: Arbiter, signame: str) -> None:
    if signame == "HUP" and service.ready and arbiter.state in ("running", "resting"):
        service.changing = True
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


@hookimpl
def arbiter_stopping(arbiter: Arbiter, graceful: bool, dropped: bool) -> None:
    if not dropped:
        service.changing = True
        notify("STOPPING=1", f"STATUS={'draining' if graceful else 'stopping'}")


@hookimpl
def tick(arbiter: Arbiter, now: float) -> None:
    lines = []
    if not service.ready and waits_for_redis(arbiter, now):
        service.ready, service.changing = True, False
        lines.append("READY=1")
    status = describe(arbiter)
    if status != service.status:
        service.status = status
        lines.append(f"STATUS={status}")
    if service.changing and now >= service.extend_at:
        service.extend_at = now + EXTENSION / 3
        lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")
    every = watchdog_seconds()
    if every and now >= service.watchdog_at:
        service.watchdog_at = now + every
        lines.append("WATCHDOG=1")
    if lines:
        notify(*lines)


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
    """`32/32 workers, 3 busy`, and what is wrong."""
    states = [worker.state for worker in arbiter.workers]
    up = sum(state in (WorkerState.IDLE, WorkerState.BUSY) for state in states)
    parts = [f"{up}/{arbiter.wished} workers, {states.count(WorkerState.BUSY)} busy"]
    if arbiter.state != "running":
        parts.append(arbiter.state)
    if WorkerState.CONNECTING in states:
        parts.append("Redis does not answer")
    if service.error:
        parts.append(service.error)
    return "; ".join(parts)


def watchdog_seconds() -> float:
    """Half of what systemd waits for; 0 if it does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 2e6
