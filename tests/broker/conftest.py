"""The script of a step alone: a client of its own for each network that is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from resqued.broker.hand import HANDS, RUNNING, STEP, Bounds, Hand
from resqued.broker.outcome import PlainSuccess, Recorded
from resqued.broker.wire import Wire

OWNER = "host.test machine 1 2 host.test.1.1"
WORKER, EXECUTIONS = "rq:worker:host.test.1.1", "rq:worker:host.test.1.1:executions"
BOUNDS = Bounds(grace=120, untimed=86400, longest=10**9, worker=480)


def contents(connection: redis.Redis) -> dict[str, Any]:
    """All that the server holds, by key."""
    read = {
        b"string": connection.get,
        b"list": lambda key: connection.lrange(key, 0, -1),
        b"set": connection.smembers,
        b"hash": connection.hgetall,
        b"zset": lambda key: connection.zrange(key, 0, -1, withscores=True),
        b"stream": lambda key: [fields for _, fields in connection.xrange(key)],
    }
    return {key.decode(): read[connection.type(key)](key) for key in sorted(connection.scan_iter())}


def finished(job_id: str, execution_id: str, queue: str = "q") -> PlainSuccess:
    """A plain success."""
    began, ended = "2026-11-29T06:00:00.000000Z", "2026-11-29T06:00:00.250000Z"
    times = (began, ended, 1.0, 1.25)
    return PlainSuccess(execution_id, job_id, queue, 500, "5", 0.25, True, True, *times, None)


def recorded(job_id: str, execution_id: str, queue: str = "q") -> Recorded:
    """A success as RQ would write it, in brief: a command of each kind that an outcome has."""
    both, job = f"{job_id}:{execution_id}", f"rq:job:{job_id}"
    return Recorded(
        execution_id,
        job_id,
        queue,
        [
            ("HINCRBY", WORKER, "successful_job_count", 1),
            ("HSET", job, "status", "finished"),
            ("XADD", f"rq:results:{job_id}", "*", "type", "1"),
            ("ZADD", f"rq:finished:{queue}", 5, job_id),
            ("EXPIRE", job, 500),
            ("HDEL", RUNNING, both),
            ("DEL", f"rq:execution:{both}"),
            ("ZREM", f"rq:wip:{queue}", both),
            ("ZREM", f"rq:executions:{job_id}", execution_id),
            ("SREM", EXECUTIONS, both),
        ],
    )


@pytest.fixture
def enqueue(connection: redis.Redis) -> Callable[..., None]:
    """`enqueue("a", "b", queue="low")`: jobs with these ids; other fields of their hashes."""

    def enqueue(*ids: str, queue: str = "q", **fields: str) -> None:
        for job_id in ids:
            hashed = {"origin": queue, "data": "d", "status": "queued", "timeout": "30", **fields}
            connection.hset(f"rq:job:{job_id}", mapping=hashed)
            connection.rpush(f"rq:queue:{queue}", job_id)

    return enqueue


@pytest.fixture
def hand_of(connection: redis.Redis) -> Callable[..., Hand]:
    """`hand_of(wire)`: a registered worker's hand, over this wire."""

    def make(wire: Wire | None = None) -> Hand:
        wire = wire or Wire(connection, STEP)
        hand = Hand(wire, OWNER, "host.test.1.1", WORKER, EXECUTIONS, BOUNDS)
        hand.register(connection)
        return hand

    return make


@pytest.fixture(params=[recorded, finished])
def outcome(request: pytest.FixtureRequest) -> Any:
    """Makes an outcome of a job and its execution: of each kind in turn."""
    return request.param


@pytest.fixture
def hand(hand_of: Callable[..., Hand]) -> Hand:
    return hand_of()


__all__ = ["HANDS"]
