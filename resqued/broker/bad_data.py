"""Data in Redis that RQ did not write: keys of the wrong type, bytes that are not text, broken
JSON.

One such entry is logged once and skipped, so that the entries beside it are still processed. An
error that it causes is permanent: it is not an outage, and repeating the command does not help.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import redis
from redis.client import Pipeline
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from rq.job import Job

from resqued import logs
from resqued.broker.refusals import is_cured_by_connecting
from resqued.logs import LogEvent

ASIDE: Final = ":set-aside"
"""Suffix of the name to which a key of the wrong type is renamed. Nothing reads it there."""

_OF_THE_DATA: Final = (
    "WRONGTYPE",
    "not an integer",
    "not a valid float",
    "out of range",
    "would overflow",
    "produce NaN",
    "exceeds maximum allowed size",
    "no such key",
    "attempt to ",  # a Lua error of a script, on a value that it did not expect
)
_OF_THE_RIGHTS: Final = ("ACL failure", "unknown command", "unknown subcommand")
_LONGEST: Final = 120  # characters of an odd value that are shown
_LONGEST_ERROR: Final = 500  # characters of an error that are shown

_logged: set[str] = set()

_KINDS: Final = {
    "ZADD": "zset",
    "ZREM": "zset",
    "SADD": "set",
    "SREM": "set",
    "LPUSH": "list",
    "RPUSH": "list",
    "LREM": "list",
    "XADD": "stream",
}
_JOBS: Final = Job.redis_job_namespace_prefix


def is_data_error(error: BaseException) -> bool:
    """Whether Redis works, but refuses this command because of what is stored under its keys."""
    return type(error) is ResponseError and any(word in str(error) for word in _OF_THE_DATA)


def affects_one_entry(error: BaseException) -> bool:
    """Whether a refusal concerns one duty or entry only, so that others can go on."""
    if is_cured_by_connecting(error):
        return False
    if isinstance(error, NoPermissionError) or is_data_error(error):
        return True
    return type(error) is ResponseError and any(word in str(error) for word in _OF_THE_RIGHTS)


def log_once(key: str, text: str, level: str = "ERROR") -> None:
    """Log a text unless this process has logged one for this key before. key: what it is about."""
    if key not in _logged:
        _logged.add(key)
        logs.at(level, text, LogEvent.REDIS_NOTICE)


def abbreviate(raw: object) -> str:
    """The repr of a value for the log, at most 120 characters of it."""
    text = repr(raw)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def describe_error(error: BaseException) -> str:
    """An error on one line for the log, at most 500 characters of it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}..."


def text_of(raw: bytes | str) -> str | None:
    """Decoded text; None if the bytes are not UTF-8."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON. Raises ValueError for what is not JSON, or is nested too deeply."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def set_aside(connection: redis.Redis, key: str, kind: str = "hash") -> bool:
    """Rename a key that has another type than `kind`; whether it had. Raises redis errors."""
    found = connection.type(key)
    found = found.decode() if isinstance(found, bytes) else str(found)
    if found in (kind, "none"):
        return False
    try:
        connection.rename(key, key + ASIDE)
    except ResponseError as error:
        if "no such key" not in str(error):  # else another process has just renamed it
            raise
    logs.error(
        f"key={key} is a {found} and no {kind}, so another program has overwritten it;"
        f" it is kept as {key + ASIDE}",
        LogEvent.REDIS_NOTICE,
    )
    return True


def hashes(connection: redis.Redis, *keys: str) -> list[dict[bytes, bytes]]:
    """The content of resqued's own hashes. One of the wrong type is renamed.
    One round trip if all have the right type. Raises redis errors."""
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    for place, (key, answer) in enumerate(zip(keys, answers, strict=True)):
        if isinstance(answer, RedisError):
            if not is_data_error(answer):
                raise answer
            set_aside(connection, key)
            answers[place] = connection.hgetall(key)  # others may set it aside and write, too
    return answers


def redo_what_is_refused(pipeline: Pipeline, connection: Any) -> None:
    """Make this transaction survive lists, sets and streams of the wrong type.

    Redis does not roll back a transaction: it leaves out a command that it refuses, and carries out
    the rest. A job that leaves one queue and is not added to the next would be lost. So, when the
    pipeline is executed, each key that is in the way is renamed, and the commands for it are sent
    again. A job's own keys are left alone.
    """
    pipeline.execute = partial(  # type: ignore[method-assign]
        _execute, pipeline, connection, pipeline.execute
    )


def _execute(
    pipeline: Pipeline, connection: Any, execute: Any, raise_on_error: bool = True
) -> list[Any]:
    commands = [args for args, _ in pipeline.command_stack]
    answers: list[Any] = execute(raise_on_error=False)
    for args, answer in zip(commands, answers, strict=True):
        if isinstance(answer, ResponseError) and is_data_error(answer):
            _redo(connection, commands, args)
    if raise_on_error:
        for number, (args, answer) in enumerate(zip(commands, answers, strict=True), 1):
            if isinstance(answer, Exception) and not _is_redone(args, answer):
                pipeline.annotate_exception(answer, number, args)
                raise answer
    return answers


def _is_redone(args: tuple[Any, ...], answer: Exception) -> bool:
    return is_data_error(answer) and _kind_for(args) is not None


def _kind_for(args: tuple[Any, ...]) -> str | None:
    """The type that a command's key must have; None: the key is left alone."""
    name, key = str(args[0]), str(args[1]) if len(args) > 1 else ""
    return None if key.startswith(_JOBS) else _KINDS.get(name)


def _redo(connection: Any, commands: list[tuple[Any, ...]], refused: tuple[Any, ...]) -> None:
    kind, key = _kind_for(refused), str(refused[1])
    if kind is None or not set_aside(connection, key, kind):
        return  # or it has been renamed after an earlier refusal
    for args in commands:
        if len(args) > 1 and str(args[1]) == key:
            connection.execute_command(*args)
