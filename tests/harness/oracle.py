"""Where is each job? After the dust has settled every id is in exactly one place, or it is lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

# Sorted sets of RQ, by queue: `rq:<kind>:<queue>`.
_REGISTRIES = ("wip", "scheduled", "deferred", "ready", "finished", "failed", "canceled")


def places(connection: redis.Redis, ids: Iterable[str]) -> dict[str, list[str]]:
    """For each id the places it is in: `queue:low`, `taken:low`, `wip:low`, `failed:low` ...

    An id in flight is in the intermediate list of its queue and in a claim at once: that is one
    place, `taken`. A registry that holds an id twice names it twice.
    """
    found: dict[str, list[str]] = {job_id: [] for job_id in ids}

    def note(job_id: str, place: str) -> None:
        if job_id in found:
            found[job_id].append(place)

    claimed = _claims(connection)
    for queue in _queues(connection):
        for job_id in _texts(connection.lrange(f"rq:queue:{queue}", 0, -1)):
            note(job_id, f"queue:{queue}")
        intermediate = _texts(connection.lrange(f"rq:queue:{queue}:intermediate", 0, -1))
        for job_id in intermediate:
            note(job_id, f"taken:{queue}")
        for kind in _REGISTRIES:
            for member in _texts(connection.zrange(f"rq:{kind}:{queue}", 0, -1)):
                note(member.partition(":")[0], f"{kind}:{queue}")
        claimed -= set(intermediate)
    for job_id in claimed:
        note(job_id, "claimed")
    for key in _texts(connection.scan_iter(match="rq:rl:*:rate_limited", count=1000)):
        for job_id in _texts(connection.zrange(key, 0, -1)):
            note(job_id, f"rate_limited:{key.split(':')[2]}")
    return found


def assert_one_place_each(connection: redis.Redis, ids: Iterable[str]) -> dict[str, str]:
    """Every id is in exactly one place; returns which. A job without a result to keep
    (`result_ttl=0`) is nowhere when it is done, so give yours one."""
    where = places(connection, ids)
    lost = sorted(job_id for job_id, found in where.items() if not found)
    twice = {job_id: found for job_id, found in where.items() if len(found) > 1}
    assert not lost, f"lost: {lost}"
    assert not twice, f"in more than one place: {twice}"
    return {job_id: found[0] for job_id, found in where.items()}


def _queues(connection: redis.Redis) -> set[str]:
    """Queues that RQ knows, and those of which only a list or a registry is there."""
    names = {key.rpartition("rq:queue:")[2] for key in _texts(connection.smembers("rq:queues"))}
    prefixes = ("queue", *_REGISTRIES)
    for prefix in prefixes:
        for key in _texts(connection.scan_iter(match=f"rq:{prefix}:*", count=1000)):
            name, _, rest = key.removeprefix(f"rq:{prefix}:").partition(":intermediate")
            if not rest:  # else RQ's note when it first saw an id there
                names.add(name)
    return names


def _claims(connection: redis.Redis) -> set[str]:
    """Ids that a worker has claimed: the values of every hash of claims."""
    ids: set[str] = set()
    for key in _texts(connection.scan_iter(match="*claims*", count=1000)):
        for value in _texts(connection.hvals(key)):
            ids.update(word for word in value.replace('"', " ").split() if word)
    return ids


def _texts(raw: Iterable[Any]) -> list[str]:
    return [item.decode() for item in raw]
