"""All that is in a server, in a form in which two runs of the same job can be compared.

What differs from run to run has a name instead: an execution, a job whose id nobody chose, the
worker's process. A time is written as so many seconds from when the picture was taken, in steps
of STEP: give jobs lifetimes that are multiples of it.
"""

from __future__ import annotations

import base64
import math
import re
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

STEP = 20
"""Seconds. A run takes fewer, so what it has set is a multiple of it, or is not yet one less."""

_EXECUTION = re.compile(r"\b[0-9a-f]{32}\b")
_JOB = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_DATE = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_STAMP = re.compile(r"\b(1[6-9]|2[0-9])\d{8}(\.\d+)?\b")
_FRAME = re.compile(r'  File "([^"]*)".*\n(?:    .*\n|  \[Previous .*\n)*')

OURS = "rq:resqued:"
"""Beginning of the keys of resqued's own."""
LOCKS = "rq:clean_"
"""Whose turn it is to clean up; not of a job."""
OWN_FIELDS = frozenset({"resqued_owner", "resqued_generation"})
"""Of a worker's hash, resqued's own."""
PROCESS = frozenset({"pid", "ip_address"})
"""Of a worker's hash: which process it is."""


@dataclass(frozen=True)
class Key:
    """kind: as TYPE says. ttl: in steps; None: for good."""

    kind: str
    value: Any
    ttl: int | None


Picture = dict[str, Key]


class _Namer:
    """Writes what Redis holds. now: when it was looked at."""

    def __init__(self, now: float) -> None:
        self._now = now

    def moment(self, seconds: float) -> str:
        return f"<{math.ceil((seconds - self._now) / STEP) * STEP:+} s>"

    def text(self, raw: bytes) -> str:
        text = raw.decode("utf-8", "backslashreplace")
        text = _EXECUTION.sub("<execution>", _JOB.sub("<job>", text))
        text = _DATE.sub(lambda found: self.moment(_seconds(found[0])), text)
        return _STAMP.sub(lambda found: self.moment(float(found[0])), text)

    def score(self, score: float) -> Any:
        return self.moment(score) if 1.6e9 < score < 3e9 else score

    def fields(self, raw: dict[bytes, bytes], worker: bool = False) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, value in raw.items():
            field = name.decode()
            if field == "exc_string":
                trace = zlib.decompress(base64.b64decode(value)).decode()
                named[field] = _FRAME.sub(_frame, trace)
            elif field in ("return_value", "data", "meta"):
                named[field] = value  # to the byte
            elif worker and field in PROCESS:
                named[field] = f"<{field}>"
            elif worker and field == "total_working_time":
                named[field] = float(value) > 0
            elif not (worker and field in OWN_FIELDS):
                named[field] = self.text(value)
        return named


def _seconds(date: str) -> float:
    return datetime.fromisoformat(date[:-1]).replace(tzinfo=UTC).timestamp()


def _frame(found: re.Match[str]) -> str:
    """Only the job's own frames: those between are of who calls it."""
    return found[0] if "/tests/" in found[1] else ""


def picture(connection: redis.Redis) -> Picture:
    """Everything but the keys of resqued's own."""
    namer, found = _Namer(time.time()), {}
    for raw in sorted(connection.scan_iter(count=1000)):
        if raw.startswith((OURS.encode(), LOCKS.encode())):
            continue
        kind = connection.type(raw).decode()
        ttl = connection.ttl(raw)
        if kind == "none":  # it has expired meanwhile
            continue
        key = namer.text(raw)
        assert key not in found, f"two keys look like {key}"
        steps = None if ttl < 0 else math.ceil(ttl / STEP)
        found[key] = Key(kind, _value(connection, raw, kind, namer), steps)
    return found


def _value(connection: Any, raw: bytes, kind: str, namer: _Namer) -> Any:
    match kind:
        case "hash":
            return namer.fields(connection.hgetall(raw), raw.startswith(b"rq:worker:"))
        case "zset":
            members = connection.zrange(raw, 0, -1, withscores=True)
            return {namer.text(member): namer.score(score) for member, score in members}
        case "set":
            return sorted(map(namer.text, connection.smembers(raw)))
        case "list":
            return list(map(namer.text, connection.lrange(raw, 0, -1)))
        case "stream":
            return [namer.fields(fields) for _, fields in connection.xrange(raw)]
        case "string":
            return namer.text(connection.get(raw))
    raise AssertionError(f"{raw!r} is a {kind}")


def differences(theirs: Picture, ours: Picture, *, lasting: Iterable[str] = ()) -> list[str]:
    """What is not the same in two pictures, one line each.

    lasting: beginnings of keys whose lifetimes, and scores that are times, may be longer in ours.
    """
    lines = []
    patient = tuple(lasting)
    for key in sorted({*theirs, *ours}):
        one, other = theirs.get(key), ours.get(key)
        if one is None or other is None:
            lines.append(f"{key}: RQ has {one}, resqued {other}")
            continue
        longer = key.startswith(patient) if patient else False
        if one.kind != other.kind:
            lines.append(f"{key}: RQ has a {one.kind}, resqued a {other.kind}")
        elif one.kind in ("hash", "zset"):
            for name in sorted({*one.value, *other.value}):
                a, b = one.value.get(name), other.value.get(name)
                if a != b and not (longer and one.kind == "zset" and _is_later(a, b)):
                    lines.append(f"{key}, {name}: RQ has {a!r}, resqued {b!r}")
        elif one.value != other.value:
            lines.append(f"{key}: RQ has {one.value!r}, resqued {other.value!r}")
        if one.ttl != other.ttl and not (longer and _outlives(one.ttl, other.ttl)):
            lines.append(f"{key}: RQ's lives for {_told(one.ttl)}, resqued's {_told(other.ttl)}")
    return lines


def _is_later(one: Any, other: Any) -> bool:
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    return int(other.strip("<> s")) > int(one.strip("<> s"))


def _outlives(one: int | None, other: int | None) -> bool:
    return other is None or (one is not None and other > one)


def _told(steps: int | None) -> str:
    return "good" if steps is None else f"{steps * STEP} s"


def assert_same(theirs: Picture, ours: Picture, what: str, lasting: Iterable[str] = ()) -> None:
    lines = differences(theirs, ours, lasting=lasting)
    assert not lines, "\n  ".join([f"{what}:", *lines])
