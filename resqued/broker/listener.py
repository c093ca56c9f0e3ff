"""The push listener: how a worker hears of pushes to its queues, while it has no job.

A worker on its own also hears of commands (`rq.command`) here, at any time: the kernel sends
COMMAND when something arrives (O_ASYNC), so that a command reaches a job in hand without a
thread in the worker: threads and the forks of jobs do not go together. Under an arbiter its
steward hears them, for all workers.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ConnectionError as Disconnected

from resqued.broker.bad_data import parse_json
from resqued.broker.push_connection import PushConnection
from resqued.signals import COMMAND


class Listener:
    """One worker's. Not connected until `open`; heard things wait in `commands`, `pushed`.

    channel: where commands for this worker are published; None: somebody else hears them.
    answer: seconds that a reply may take.
    """

    def __init__(self, connection: redis.Redis, channel: str | None, answer: float) -> None:
        self.tracking = False
        """Whether Redis tells of pushes; if not, look often."""
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
        """What to select on; nothing once the other end has hung up."""
        return [self._line.fileno()] if self._line.connected else []

    def open(self) -> None:
        """Connect if it is not, and it has not been tried just now. Logs once what it cannot have.

        Without RESP3 or CLIENT TRACKING, behind a proxy or an ACL, `tracking` stays False.
        """
        line = self._line
        if line.connected or not line.open(("CLIENT", "TRACKING", "ON")):
            return
        self.tracking = line.answers == ["OK"]
        if self._channel is not None:
            self._subscribe(self._channel)
            self.tracking = self.tracking and line.connected
        if line.connected and not self.tracking:
            line.log_once("redis does not tell of pushes here; looking twice a second instead")

    def _subscribe(self, channel: str) -> None:
        flags = fcntl.fcntl(self._line, fcntl.F_GETFL)
        fcntl.fcntl(self._line, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._line, fcntl.F_SETSIG, COMMAND)
        fcntl.fcntl(self._line, fcntl.F_SETFL, flags | os.O_ASYNC)
        self._line.subscribe("SUBSCRIBE", channel)

    def close(self) -> None:
        """Hang up, also when the other end already has."""
        self.tracking = False
        self._line.close()

    def abandon(self) -> None:
        """Hang up without closing the descriptor, which may be somebody else's by now."""
        self.tracking = False
        self._line.abandon()

    def watch(
        self, lists: Sequence[str], flag: str = "", of: tuple[str, int] | None = None
    ) -> bool:
        """Hear of the next change of each of these lists; True if one of them is not empty.

        flag: a key that matters too; True if it exists.
        of: a set that matters too and how many members it should have; True if it has not.
        Raises ConnectionError when Redis did not answer.
        """
        changed = of is not None and self._count("SCARD", of[0]) != of[1]
        keys = [*lists, flag] if flag else lists
        return bool(keys and self._count("EXISTS", *keys)) or changed

    def _count(self, *words: str) -> int:
        answer = self._line.ask(*words)
        self._sort()  # what came with the answer is not read a second time
        if isinstance(answer, int):
            return answer
        if answer is None:
            raise Disconnected("the connection that hears of pushes is closed")
        if not _is_for_good(str(answer)):  # loading, cluster down: the next try may find better
            self.close()
            raise Disconnected(str(answer))
        self._line.log_once(f"redis does not let us watch our queues: {answer}")
        self.tracking = False
        return 0

    def read(self) -> None:
        """Take in what has arrived. Safe in a signal handler, also in one that interrupts it."""
        was_connected = self._line.connected
        self._line.read()
        self._sort()
        if was_connected and not self._line.connected:
            self.tracking = False
            self.pushed = True  # whoever waits for a push must not go on waiting

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
    """Missing rights, an unknown command, a key that is no queue: asking again does not help."""
    return refusal.startswith(("NOPERM", "WRONGTYPE", "ERR unknown"))
