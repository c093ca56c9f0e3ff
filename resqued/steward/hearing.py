"""RQ's commands (`rq.command`) for all workers of an arbiter, over one subscription."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

import redis
from redis.exceptions import ResponseError
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE

from resqued.channel import Commanded
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.steward.beating import living
from resqued.worker.line import Line
from resqued.worker.oddities import is_of_the_data, plain_of

_CHANNEL: Final = PUBSUB_CHANNEL_TEMPLATE % ""
_SPECIAL: Final = r"([*?\[\]\\])"  # in a pattern of Redis
_ESCAPED: Final = r"\\\1"


class Hearing:
    """The subscription. Runs in the steward.

    prefix: where the names of all our workers begin. answer: seconds that a reply may take.
    """

    def __init__(
        self, connection: redis.Redis, board: Scoreboard, prefix: str, answer: float
    ) -> None:
        self._connection = connection
        self._board = board
        ours = f"{_CHANNEL}{re.sub(_SPECIAL, _ESCAPED, prefix)}*"
        # A rule of an ACL allows a pattern only if it has the very same words.
        self._patterns = (ours, f"{_CHANNEL}*")
        self._channels: set[str] | None = None  # subscribed to one by one; None: by pattern
        self._line = Line(connection, answer)

    @property
    def descriptors(self) -> list[int]:
        """What to poll; nothing while it is not connected."""
        return [self._line.fileno()] if self._line.connected else []

    def open(self) -> None:
        """Subscribe if we are not; without an answer, later. Heartbeats do not wait for it."""
        if not self._line.connected and self._line.open():
            self._channels = None
            if all(self._line.refuses("PSUBSCRIBE", pattern) for pattern in self._patterns):
                self._channels = set()
        if self._channels is not None and self._line.connected:
            self._subscribe_one_by_one(self._channels)

    def _subscribe_one_by_one(self, channels: set[str]) -> None:
        """Where no pattern is allowed. A worker that has just come up is heard a second later."""
        wanted = {f"{_CHANNEL}{record.name}" for _, record in living(self._board)}
        for channel in sorted(channels - wanted):
            self._line.ask("UNSUBSCRIBE", channel)
        for channel in sorted(wanted - channels):
            self._line.subscribe("SUBSCRIBE", channel)
        self._channels = wanted

    def check(self) -> None:
        """Find out whether the other end is still there, and the master; hang up if not."""
        if self._line.connected and self._line.leads_to_a_replica():
            self.close()

    def hear(self) -> list[Commanded]:
        """What has come in for workers that can be told. Raises redis errors."""
        if self._line.connected:
            self._line.read()
        heard = []
        while self._line.pushes:
            push = self._line.pushes.popleft()
            if push[0] not in (b"pmessage", b"message"):
                continue
            with contextlib.suppress(ValueError, TypeError, AttributeError, IndexError):
                name = push[-2].decode().removeprefix(_CHANNEL)
                heard += self._for_worker(name, plain_of(push[-1]))
        return heard

    def close(self) -> None:
        self._line.close()

    def _for_worker(self, name: str, command: dict[str, Any]) -> list[Commanded]:
        for slot, record in living(self._board):
            if record.name != name:
                continue
            if word := self._meant(record, command):
                return [Commanded(slot, record.serial, word, record.execution_id)]
            if self._names_what_is_on_its_way(record, command):
                return [Commanded(slot, record.serial, "stop", record.token)]
        return []

    def _meant(self, record: Record, command: dict[str, Any]) -> str:
        """What this worker has to be told: shutdown, stop, kill; empty: nothing."""
        busy = bool(record.execution_id) and Phase.TAKEN <= record.phase <= Phase.RETURNED
        match command.get("command"):
            case "shutdown":
                return "shutdown"
            case "stop-job" if busy and self._runs(record, str(command.get("job_id"))):
                return "stop"
            case "stop-execution" if busy and command.get("execution_id") == record.execution_id:
                return "stop"
            case "kill-horse" if busy:
                return "kill"
        return ""

    def _names_what_is_on_its_way(self, record: Record, command: dict[str, Any]) -> bool:
        """Whether it stops a job that a step has started, and of which its worker, which does not
        know it yet, has to hear once it does."""
        match command.get("command"):
            case "stop-job" if record.token:
                return self._is_of(record, str(command.get("job_id")), record.token)
            case "stop-execution" if record.token:
                return bool(command.get("execution_id") == record.token)
        return False

    def _runs(self, record: Record, job_id: str) -> bool:
        if not record.overflow:
            return record.job_id == job_id
        return self._is_of(record, job_id, record.execution_id)

    def _is_of(self, record: Record, job_id: str, execution_id: str) -> bool:
        """Whether Redis says that this worker runs this execution of the job."""
        key = WORKER_EXECUTIONS_KEY_TEMPLATE.format(record.name)
        try:
            return bool(self._connection.sismember(key, f"{job_id}:{execution_id}"))
        except ResponseError as error:
            if not is_of_the_data(error):
                raise
            return False
