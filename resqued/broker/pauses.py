"""Paused queues, as Redis has them: nothing is taken from these until they are resumed.

One hash without expiry for all arbiters of this Redis. Read by stewards, by workers that have none,
and by `resquedctl queue`, which also writes it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import redis
from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.bad_data import hashes, parse_json, text_of

PAUSED: Final = f"{RQ_KEY_PREFIX}:resqued:paused"
"""Hash: from the name of a queue to who has paused it, and when (`Pause`)."""


@dataclass(frozen=True)
class Pause:
    """Who has paused a queue, as `USER@HOST`, and when, in Unix seconds. None: unknown."""

    by: str | None = None
    since: float | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """What `pause_queue` has written. A value of another kind, as an operator may have set it
        by hand, pauses just as well."""
        try:
            plain: Any = parse_json(raw)
        except ValueError:
            plain = None
        if not isinstance(plain, dict):
            return cls()
        by, since = plain.get("by"), plain.get("since")
        return cls(
            by if isinstance(by, str) else None,
            float(since) if isinstance(since, int | float) else None,
        )


def read_pauses(connection: redis.Redis) -> dict[str, Pause]:
    """The paused queues by name, in the order of their names. Raises redis errors."""
    found = {text_of(name): Pause.parse(raw) for name, raw in hashes(connection, PAUSED)[0].items()}
    return {name: found[name] for name in sorted(filter(None, found))}


def pause_queue(connection: redis.Redis, name: str, pause: Pause) -> bool:
    """Pause a queue; False if it is paused already, and nothing is changed. Raises redis errors."""
    return bool(connection.hsetnx(PAUSED, name, json.dumps(asdict(pause))))


def resume_queue(connection: redis.Redis, name: str) -> bool:
    """Resume a queue; False if it was not paused. Raises redis errors."""
    return bool(connection.hdel(PAUSED, name))
