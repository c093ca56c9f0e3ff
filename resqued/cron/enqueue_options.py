"""What RQ's `enqueue` takes besides a function and its arguments: checked before the first tick."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rq import Callback, RateLimit, Retry
from rq.utils import parse_timeout
from rq.webhook import Webhook

from resqued.cron import register
from resqued.cron.functions import check_name

_LONGEST: Final = 10 * 365 * 86400  # seconds; timers of the kernel and of Redis take it

_SECONDS: Final = {"job_timeout": 1, "result_ttl": 0, "ttl": 1, "failure_ttl": 0}
"""The least value of each; -1 is for ever where `_FOR_EVER` says so."""

_FOR_EVER: Final = frozenset({"job_timeout", "result_ttl", "failure_ttl"})
_CALLBACKS: Final = ("on_success", "on_failure", "on_stopped")

_NOT_TAKEN: Final = {
    "job_id": "each job has an id of its own, which follows from the tick; leave it out",
    "repeat": "a periodic job repeats by its schedule; leave it out",
    "depends_on": "a periodic job waits for no other; enqueue what follows in the job itself",
    "unique": "write overlap='skip'",
    "pipeline": "the keeper enqueues in a script; leave it out",
    "timeout": "write job_timeout",
}
"""What `enqueue` takes and `register` does not, and what to do."""


def read(arguments: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Those of the arguments of `register` that are for `enqueue`, without what is None or empty.

    What is wrong is added to `problems`.
    """
    found: dict[str, Any] = {}
    for name, check in _checks():
        value = arguments.get(name)
        if value is None:
            continue
        try:
            found[name] = check(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    for name in arguments.get("unknown", ()):
        problems.append(f"{name}: {_NOT_TAKEN.get(name) or _no_such(name)}")
    if found.get("at_front") is False:
        del found["at_front"]
    return {name: value for name, value in found.items() if value != [] and value != {}}


def _checks() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for name, least in _SECONDS.items():
        yield name, _seconds(least, name in _FOR_EVER)
    yield "meta", _meta
    yield "retry", _retry
    yield "at_front", _at_front
    for name in _CALLBACKS:
        yield name, _callback
    yield "description", _description
    yield "webhooks", _webhooks
    yield "rate_limit", _rate_limit


def _no_such(name: str) -> str:
    known = [each for each in inspect.signature(register).parameters if each != "unknown"]
    close = difflib.get_close_matches(name, known, 1)
    return f"there is no such argument; {f'did you mean {close[0]}?' if close else 'leave it out'}"


def _seconds(least: int, for_ever: bool) -> Callable[[Any], int]:
    words = f"write seconds, at least {least}, or '1h'" + ("; -1 is for ever" if for_ever else "")

    def check(value: Any) -> int:
        if isinstance(value, bool):
            raise ValueError(f"{value!r} is no duration; {words}")
        try:
            seconds = parse_timeout(value)
        except Exception:
            raise ValueError(f"{value!r} is no duration; {words}") from None
        assert seconds is not None
        if seconds < least and not (for_ever and seconds == -1):
            raise ValueError(f"{value!r} is too short; {words}")
        if seconds > _LONGEST:
            raise ValueError(f"{value!r} is too long; at most {_LONGEST} seconds (ten years)")
        return seconds

    return check


def _meta(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is not a dict")
    return dict(value)


def _retry(value: Any) -> Retry:
    if not isinstance(value, Retry):
        raise ValueError(f"{value!r} is not an rq.Retry; write Retry(max=3, interval=[10, 60])")
    return value


def _at_front(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither True nor False")
    return value


def _callback(value: Any) -> Callback:
    try:
        callback = value if isinstance(value, Callback) else Callback(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is no callback; write rq.Callback(function), or a dotted name"
        ) from None
    check_name(callback.name)
    return callback


def _description(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text; put it in quotes")
    return value


def _webhooks(value: Any) -> list[Webhook]:
    whole = isinstance(value, Sequence) and not isinstance(value, str)
    if not whole or not all(isinstance(each, Webhook) for each in value):
        raise ValueError(f"{value!r} is not a list of rq.webhook.Webhook")
    return list(value)


def _rate_limit(value: Any) -> RateLimit:
    if not isinstance(value, RateLimit):
        raise ValueError(f"{value!r} is not an rq.RateLimit; write RateLimit('key', concurrency=2)")
    return value
