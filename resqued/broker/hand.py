"""The worker's side of `step.lua`: number the steps, send them and read their replies.

A worker's *hand* is its entry in the hash HANDS: the number of its last step, and the job that it
has in hand. It makes a step that is sent twice happen once. One round trip per job.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import redis
from redis.client import Pipeline
from rq.defaults import RQ_KEY_PREFIX
from rq.suspension import WORKERS_SUSPENDED

from resqued.broker.limits import QueueLimits
from resqued.broker.outcome import Ending, rq_time
from resqued.broker.wire import Wire, bulk, read_script

HANDS: Final = f"{RQ_KEY_PREFIX}:resqued:hands"
"""Hash: from a worker's owner to its hand; `step.lua` documents the format."""

RUNNING: Final = f"{RQ_KEY_PREFIX}:resqued:running"
"""Hash: from `JOB_ID:EXECUTION_ID` to the owner and the name of the queue."""


STEP: Final = read_script("full", "step")
GIVE_BACK: Final = read_script("tell", "give_back")


def execution_of(hand: bytes) -> str:
    """The execution id in a value of HANDS; empty if no job is in hand."""
    words = hand.split(b" ", 3)
    return words[2].decode(errors="replace") if len(words) > 2 else ""


_NO_ENDING: Final = bulk(("",))
_HEADS: Final = 200
"""How many packed lists of queues are kept; the strategy `random` produces many orders."""

_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class StepResult(NamedTuple):
    """What a step has done. ended: empty, `written`, or `refused`: the outcome must be written in
    RQ's way, and nothing was done."""

    ended: str
    what: str
    """`job`, `none`, `suspended`, `unusual`, `again`, `other`, `unknown`, `stale`; else empty."""
    job_id: str = ""
    queue_key: str = ""
    execution_id: str = ""
    hash: Mapping[bytes, bytes] = MappingProxyType({})
    at: datetime = _LONG_AGO
    """When the job was started."""
    why: str = ""
    full: tuple[str, ...] = ()
    """Keys of queues that are at their limit and not empty, if there was no other job."""


@dataclass(frozen=True)
class Bounds:
    """Times in seconds. grace: how long an execution outlives its job's timeout. untimed: its TTL
    if the job has no timeout. longest: its longest TTL. worker: TTL of a worker's hash."""

    grace: int
    untimed: int
    longest: int
    worker: int


_ENDED: Final = {b"0": "", b"1": "written"}
_BARE: Final = (b"unknown", b"stale", b"refused")


class Hand:
    """The hand of one worker. Used by the worker's main thread. Methods raise redis errors. wire:
    sends the script STEP. owner: `str(Owner)`. worker_key, executions_key: keys of the worker's
    hash and of its executions in RQ."""

    def __init__(
        self,
        wire: Wire,
        owner: str,
        name: str,
        worker_key: str,
        executions_key: str,
        bounds: Bounds,
        limits: QueueLimits | None = None,
    ) -> None:
        self._wire = wire
        self._owner = owner
        self._keys = (HANDS, RUNNING, WORKERS_SUSPENDED, worker_key, executions_key)
        self._fixed = (
            owner,
            RQ_KEY_PREFIX,
            name,
            bounds.grace,
            bounds.untimed,
            bounds.longest,
            bounds.worker,
        )
        self._limits = limits or QueueLimits({})
        self._heads: dict[tuple[str, ...], tuple[int, bytes]] = {}
        self._number = 1
        self._sent = False
        self.token = ""
        """The id of the next execution. It is put on the record before the step is sent, since the
        execution may exist from then on."""

    def make_token(self) -> str:
        """The id of the next execution; the same until a job was started with it."""
        self.token = self.token or os.urandom(16).hex()
        return self.token

    def register(self, connection: redis.Redis) -> None:
        """Create the hand, before the worker registers in RQ."""
        connection.hset(HANDS, self._owner, f"{self._number - 1} -0")

    def free(self, pipeline: Pipeline) -> None:
        """Add to RQ's transaction that ends the job: empty the hand. Late steps then do nothing."""
        pipeline.hset(HANDS, self._owner, f"{self._number} -0")
        self._number += 1
        self._sent = False

    def step(self, queues: Sequence[str], ending: Ending | None = None) -> StepResult:
        """End the job in hand, take the next job of these queues (given by key) and start it. After
        a redis error it may have been carried out: call again with the same ending."""
        token = self.make_token()
        moment = datetime.now(UTC)
        stamp = moment.timestamp()
        count, head = self._head(tuple(queues))
        more, words = ending.pack(self._wire) if ending else (1, _NO_ENDING)
        moments = rq_time(moment), repr(stamp), int(stamp)
        own = bulk((self._number, "1" if self._sent else "0", token, *moments))
        sent, self._sent = self._sent, True
        answer = self._wire.ask(b"*%d\r\n%b%b%b" % (count + 6 + more, head, own, words))
        self._sent = False
        return self._read(answer, moment, wrote=sent or ending is not None)

    def _head(self, queues: tuple[str, ...]) -> tuple[int, bytes]:
        """The part of a request that is the same for these queues; its number of words first."""
        head = self._heads.get(queues)
        if head is None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            keys = (*self._keys, *queues)
            fixed = (*self._fixed, self._limits.encode(queues))
            words = self._wire.evalsha + bulk((len(keys), *keys, *fixed))
            head = self._heads[queues] = 3 + len(keys) + len(fixed), words
        return head

    def forget_limits(self) -> None:
        """The limits have changed."""
        self._heads.clear()

    def _read(self, answer: list[bytes], moment: datetime, wrote: bool) -> StepResult:
        if answer[0] in _BARE:
            word = answer[0].decode()
            if word == "stale":  # Redis has a later step than this worker knows of
                self._number += 1
            why = answer[1].decode(errors="replace") if len(answer) > 1 else ""
            return StepResult("refused" if word == "refused" else "", word, why=why)
        ended, what, *rest = answer
        if wrote or what in (b"job", b"again"):
            self._number += 1
        written = _ENDED.get(ended, "")
        if what == b"job":
            job_id, queue_key, *pairs = rest
            token, self.token = self.token, ""
            return StepResult(
                written,
                "job",
                job_id.decode(),
                queue_key.decode(),
                token,
                dict(zip(pairs[::2], pairs[1::2], strict=True)),
                moment,
            )
        if what == b"other":
            named = [raw.decode(errors="replace") for raw in rest]
            return StepResult(written, "other", named[1], named[2], named[0])
        full = tuple(raw.decode() for raw in rest)
        return StepResult(written, what.decode(), at=moment, full=full)
