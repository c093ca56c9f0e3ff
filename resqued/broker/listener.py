"""The push listener: how an idle worker learns of new jobs in its queues.

A worker without an arbiter also receives commands (`rq.command`) here, at any time: the kernel
sends the signal COMMAND when data arrives (O_ASYNC), so that a command reaches a running job
without a thread in the worker; a process with threads must not fork for jobs. Under an arbiter the
steward receives the commands for all workers.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ConnectionError as Disconnected

from resqued.broker.bad_data import parse_json
from resqued.broker.limits import QueueLimit
from resqued.broker.push_connection import PushConnection
from resqued.signal_table import COMMAND


@dataclass(frozen=True)
class Watched:
    """What an idle worker waits for. lists: keys; a push to one of them. of: a set and its expected
    size; that it changes. limits: of queues that are at them; that a job of one of them ends."""

    lists: Sequence[str] = ()
    of: tuple[str, int] | None = None
    limits: Sequence[QueueLimit] = ()

    @property
    def jobs(self) -> bool:
        """Whether it waits for a job, and not only for other queues to come."""
        return bool(self.lists or self.limits)

    def __bool__(self) -> bool:
        return self.jobs or self.of is not None


class Listener:
    """The listener of one worker. Not connected until `open`; results are in `commands` and
    `pushed`. channel: where commands for this worker are published; None: another process receives
    them. answer: seconds that a reply may take."""

    def __init__(self, connection: redis.Redis, channel: str | None, answer: float) -> None:
        self.tracking = False
        """Whether Redis reports pushes; if not, the worker polls its queues."""
        self.pushed = False
        """A key that `watch` named has changed."""
        self.commands: collections.deque[dict[str, Any]] = collections.deque()
        self._channel = channel
        self._line = PushConnection(connection, answer)

    @property
    def connected(self) -> bool:
        return self._line.connected

    @property
    def descriptors(self) -> list[int]:
        """Descriptors to poll for reading; empty after the connection was closed."""
        return [self._line.fileno()] if self._line.connected else []

    def open(self) -> None:
        """Connect if not connected, and the last attempt was not just now. Without RESP3 or CLIENT
        TRACKING (a proxy, an ACL) `tracking` stays False; that is logged once."""
        line = self._line
        if line.connected or not line.open(("CLIENT", "TRACKING", "ON")):
            return
        self.tracking = line.answers == ["OK"]
        if self._channel is not None:
            self._subscribe(self._channel)
            self.tracking = self.tracking and line.connected
        if line.connected and not self.tracking:
            line.log_once(
                "redis does not report pushes here; polling the queues twice a second instead"
            )

    def _subscribe(self, channel: str) -> None:
        flags = fcntl.fcntl(self._line, fcntl.F_GETFL)
        fcntl.fcntl(self._line, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._line, fcntl.F_SETSIG, COMMAND)
        fcntl.fcntl(self._line, fcntl.F_SETFL, flags | os.O_ASYNC)
        self._line.subscribe("SUBSCRIBE", channel)

    def close(self) -> None:
        """Close the connection."""
        self.tracking = False
        self._line.close()

    def abandon(self) -> None:
        """Drop the connection without closing its descriptor, which may by now be another file."""
        self.tracking = False
        self._line.abandon()

    def watch(self, watched: Watched, flag: str = "") -> bool:
        """Have the next change of all this reported; True if a list is not empty, the set has not
        the expected size, or a queue is below its limit. flag: one more key to watch; True if it
        exists. Raises ConnectionError when Redis did not answer."""
        of = watched.of
        changed = of is not None and self._count("SCARD", of[0]) != of[1]
        keys = [*watched.lists, flag] if flag else watched.lists
        changed = bool(keys and self._count("EXISTS", *keys)) or changed
        return any([self._has_room(limit) for limit in watched.limits]) or changed

    def _has_room(self, limit: QueueLimit) -> bool:
        """As `full.lua` counts; here so that Redis reports changes of what is counted."""
        count = self._count("ZCOUNT", limit.started, f"({time.time()}", "+inf")
        count += self._count("LLEN", limit.intermediate)
        return count + sum(not self._count("SCARD", key) for key in limit.guests) < limit.most

    def _count(self, *words: str) -> int:
        answer = self._line.ask(*words)
        self._sort()  # pushes that came with the answer
        if isinstance(answer, int):
            return answer
        if answer is None:
            raise Disconnected("the connection that hears of pushes is closed")
        if not _is_for_good(str(answer)):  # loading, cluster down: the next try may find better
            self.close()
            raise Disconnected(str(answer))
        self._line.log_once(f"redis does not let this worker watch its queues: {answer}")
        self.tracking = False
        return 0

    def read(self) -> None:
        """Read what has arrived, without blocking. Safe in signal handlers, also nested ones."""
        was_connected = self._line.connected
        self._line.read()
        self._sort()
        if was_connected and not self._line.connected:
            self.tracking = False
            self.pushed = True  # so that a wait for a push ends

    def _sort(self) -> None:
        while True:
            try:
                push = self._line.pushes.popleft()
            except IndexError:  # also when a handler interrupted this and took the last
                break
            if push[0] == b"invalidate":
                self.pushed = True
            elif push[0] == b"message":
                with contextlib.suppress(ValueError, TypeError, IndexError):
                    command = parse_json(push[2])
                    if isinstance(command, dict):
                        self.commands.append(command)


def _is_for_good(refusal: str) -> bool:
    """Whether repeating is useless: missing rights, unknown command, key of the wrong type."""
    return refusal.startswith(("NOPERM", "WRONGTYPE", "ERR unknown"))
