"""RQ's commands (`rq.command`) for all workers of an arbiter, over one subscription."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.exceptions import ResponseError
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE

from resqued.broker.bad_data import is_data_error, parse_json, text_of
from resqued.broker.push_connection import PushConnection
from resqued.messages import Commanded
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.steward.heartbeats import living

_CHANNEL: Final = PUBSUB_CHANNEL_TEMPLATE % ""
_SPECIAL: Final = r"([*?\[\]\\])"  # in a pattern of Redis
_ESCAPED: Final = r"\\\1"


class CommandSubscription:
    """The subscription. Runs in the steward.

    prefix: of the names of all workers of the arbiter. answer: seconds that a reply may take.
    """

    def __init__(
        self, connection: redis.Redis, board: Scoreboard, prefix: str, answer: float
    ) -> None:
        self._connection = connection
        self._board = board
        own = f"{_CHANNEL}{re.sub(_SPECIAL, _ESCAPED, prefix)}*"
        # An ACL allows a pattern only by a rule with the same text.
        self._patterns = (own, f"{_CHANNEL}*")
        self._channels: set[str] | None = None  # subscribed to one by one; None: by pattern
        self._line = PushConnection(connection, answer)

    @property
    def descriptors(self) -> list[int]:
        """What to poll; nothing while it is not connected."""
        return [self._line.fileno()] if self._line.connected else []

    def open(self) -> None:
        """Subscribe if it is not done; without an answer, later. Heartbeats do not wait for it."""
        if not self._line.connected and self._line.open():
            self._channels = None
            if all(self._line.refuses("PSUBSCRIBE", pattern) for pattern in self._patterns):
                self._channels = set()
        if self._channels is not None and self._line.connected:
            self._subscribe_one_by_one(self._channels)

    def _subscribe_one_by_one(self, channels: set[str]) -> None:
        """Subscribe to each worker's channel, where no pattern is allowed. New workers follow
        within a second."""
        wanted = {f"{_CHANNEL}{record.name}" for _, record in living(self._board)}
        for channel in sorted(channels - wanted):
            self._line.ask("UNSUBSCRIBE", channel)
        for channel in sorted(wanted - channels):
            self._line.subscribe("SUBSCRIBE", channel)
        self._channels = wanted

    def check(self) -> None:
        """Close the connection if the server is gone or is no longer the master."""
        if self._line.connected and self._line.leads_to_a_replica():
            self.close()

    def hear(self) -> Iterator[Commanded]:
        """Commands that have arrived for workers that live. Raises redis errors, between two."""
        if self._line.connected:
            self._line.read()
        while self._line.pushes:
            push = self._line.pushes.popleft()
            if push[0] not in (b"pmessage", b"message"):
                continue
            with contextlib.suppress(ValueError, TypeError, AttributeError, IndexError):
                name = push[-2].decode().removeprefix(_CHANNEL)
                yield from self._for_worker(name, parse_json(push[-1]))

    def close(self) -> None:
        self._line.close()

    def _for_worker(self, name: str, command: dict[str, Any]) -> list[Commanded]:
        for slot, record in living(self._board):
            if record.name == name and (meant := self._meant(record, command)):
                return [Commanded(slot, record.serial, *meant)]
        return []

    def _meant(self, record: Record, command: dict[str, Any]) -> tuple[str, str] | None:
        """What the command means for this worker: shutdown, stop or kill, and the execution; None:
        the command is not for it."""
        match command.get("command"):
            case "shutdown":
                return "shutdown", record.execution_id
            case "stop-job" | "stop-execution" | "kill-horse" as kind:
                pass
            case _:
                return None
        begun = self._begun(record)
        if begun is None:
            return None
        job_id, execution_id = begun
        match kind:
            case "stop-job" if str(command.get("job_id")) == job_id:
                return "stop", execution_id
            case "stop-execution" if command.get("execution_id") == execution_id:
                return "stop", execution_id
            case "kill-horse":
                return "kill", execution_id
        return None

    def _begun(self, record: Record) -> tuple[str, str] | None:
        """Ids of the worker's job and execution, as Redis has them.

        The step that starts a job may also have ended the last one before the worker knows it. The
        worker reads an order for the new execution as soon as it knows of that.
        """
        if record.token and (job_id := self._job_of(record, record.token)) is not None:
            return job_id, record.token
        if not record.execution_id or not Phase.TAKEN <= record.phase <= Phase.RETURNED:
            return None
        if not record.overflow:
            return record.job_id, record.execution_id
        job_id = self._job_of(record, record.execution_id)
        return None if job_id is None else (job_id, record.execution_id)

    def _job_of(self, record: Record, execution_id: str) -> str | None:
        """The id of the job of an execution, as Redis has it; None: this worker does not run it.
        Raises redis errors."""
        key = WORKER_EXECUTIONS_KEY_TEMPLATE.format(record.name)
        try:
            members: Any = self._connection.smembers(key)
        except ResponseError as error:
            if not is_data_error(error):
                raise
            return None
        for member in filter(None, map(text_of, members)):
            job_id, _, found = member.rpartition(":")
            if found == execution_id:
                return job_id
        return None
