"""The fleet: what every arbiter of a Redis tells of itself there, whatever its host.

A steward writes its arbiter's entry, `resquedctl fleet` reads all. How long an arbiter has been
silent is measured by the server's clock: those of the hosts may differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import redis
from redis.exceptions import ResponseError
from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.bad_data import hashes, is_data_error, parse_json, set_aside, text_of
from resqued.broker.wire import read_script

FLEET: Final = f"{RQ_KEY_PREFIX}:resqued:fleet"
"""Hash: from an arbiter's identity to its `FleetEntry`."""

SEEN: Final = f"{RQ_KEY_PREFIX}:resqued:fleet:seen"
"""Sorted set: the identities in FLEET, by when each was heard of, in seconds of the server."""

SILENT: Final = 15.0
"""Seconds after which an arbiter that was not heard of is called silent."""

FORGOTTEN: Final = 86400
"""Seconds after which it is dropped."""

_BEAT: Final = read_script("fleet_beat")


@dataclass(frozen=True)
class FleetEntry:
    """One arbiter. ready: workers that are idle or busy. queues: how many of these serve each.
    more: queues beyond those. limits: of jobs at once, by queue, as this arbiter has them. silent:
    seconds since it was heard of, known to the reader only."""

    host: str
    pid: int
    version: str
    generation: int = 0
    workers: int = 0
    ready: int = 0
    busy: int = 0
    state: str = ""
    name: str | None = None
    queues: Mapping[str, int] = field(default_factory=dict)
    more: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    silent: float = 0.0

    @property
    def is_silent(self) -> bool:
        return self.silent > SILENT

    @classmethod
    def parse(cls, raw: bytes, silent: float) -> Self:
        """What another arbiter has written, of this version or another. Raises ValueError."""
        plain = parse_json(raw)
        if not isinstance(plain, dict):
            raise ValueError("not an object")
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        for name in ("queues", "limits"):
            counts = known.get(name, {})
            if not isinstance(counts, dict) or not all(map(_is_number, counts.values())):
                raise ValueError(f"{name} is no object of numbers")
        numbers = [known.get(name) for name in ("pid", "generation", "workers", "ready", "busy")]
        if not all(number is None or _is_number(number) for number in numbers):
            raise ValueError("a count is no number")
        texts = [known.get(name, "") for name in ("host", "version", "state")]
        if not all(isinstance(text, str) for text in [*texts, known.get("name") or ""]):
            raise ValueError("a name is no text")
        try:
            return cls(**{**known, "silent": silent})
        except TypeError as error:
            raise ValueError(str(error)) from None


def enter(connection: redis.Redis, identity: str, entry: FleetEntry) -> None:
    """Write an arbiter's entry, and drop those that are a day old. Raises redis errors."""
    plain = {name: value for name, value in asdict(entry).items() if name != "silent"}
    _send(connection, identity, json.dumps(plain))


def leave(connection: redis.Redis, identity: str) -> None:
    """Remove an arbiter's entry, since it leaves in order. Raises redis errors."""
    _send(connection, identity, "")


def _send(connection: redis.Redis, identity: str, text: str) -> None:
    script = connection.register_script(_BEAT)

    def send() -> None:
        script(keys=[FLEET, SEEN], args=[identity, text, FORGOTTEN])

    try:
        send()
    except ResponseError as error:
        if not is_data_error(error):
            raise
        set_aside(connection, FLEET)
        set_aside(connection, SEEN, "zset")
        send()


def read_fleet(connection: redis.Redis) -> dict[str, FleetEntry]:
    """All arbiters by identity, by host and pid. An entry that cannot be read is passed over.
    Raises redis errors."""
    entries = hashes(connection, FLEET)[0]
    at = _seen(connection) if entries else {}
    server: Any = connection.time()
    now = server[0] + server[1] / 1_000_000
    found: dict[str, FleetEntry] = {}
    for raw, text in entries.items():
        identity = text_of(raw)
        if identity is None or raw not in at or now - at[raw] >= FORGOTTEN:
            continue
        try:
            found[identity] = FleetEntry.parse(text, max(0.0, now - at[raw]))
        except ValueError:
            continue
    return dict(sorted(found.items(), key=lambda each: (each[1].host, each[1].pid)))


def _seen(connection: redis.Redis) -> dict[bytes, float]:
    """When each was heard of, in seconds of the server."""
    try:
        seen: Any = connection.zrange(SEEN, 0, -1, withscores=True)
    except ResponseError as error:
        if not is_data_error(error):
            raise
        set_aside(connection, SEEN, "zset")
        seen = connection.zrange(SEEN, 0, -1, withscores=True)
    return dict(seen)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
