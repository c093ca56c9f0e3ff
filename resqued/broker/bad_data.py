"""What nobody of RQ has written: keys of another type, bytes that are no text, JSON without end.

One such entry is named once in the log and passed over; everything beside it goes on. A refusal
that is due to it is permanent: it is no outage, and asking again does not help.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import redis
from redis.client import Pipeline
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from rq.job import Job

from resqued.broker.refusals import is_cured_by_connecting
from resqued.logs import logger

ASIDE: Final = ":set-aside"
"""Ends the name under which a key of ours, or an intermediate list, that is of another type stays
in Redis: nobody reads it there."""

_OF_THE_DATA: Final = (
    "WRONGTYPE",
    "not an integer",
    "not a valid float",
    "out of range",
    "would overflow",
    "produce NaN",
    "exceeds maximum allowed size",
    "no such key",
    "attempt to ",  # a script of ours, on a value that it did not expect
)
_OF_THE_RIGHTS: Final = ("ACL failure", "unknown command", "unknown subcommand")
_LONGEST: Final = 120  # characters of an odd value that are shown
_LONGEST_ERROR: Final = 500  # characters of what is said about one

_logged: set[str] = set()


def is_data_error(error: BaseException) -> bool:
    """Whether Redis works, and refuses this command for what is stored under its keys."""
    return type(error) is ResponseError and any(word in str(error) for word in _OF_THE_DATA)


def affects_one_entry(error: BaseException) -> bool:
    """Whether a refusal is that of one duty or entry, and others may well go on."""
    if is_cured_by_connecting(error):
        return False
    if isinstance(error, NoPermissionError) or is_data_error(error):
        return True
    return type(error) is ResponseError and any(word in str(error) for word in _OF_THE_RIGHTS)


def log_once(key: str, text: str, level: str = "ERROR") -> None:
    """Log it unless this process has already said so. key: what it is about."""
    if key not in _logged:
        _logged.add(key)
        logger.log(level, text)


def abbreviate(raw: object) -> str:
    """An odd value, for the log."""
    text = repr(raw)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def describe_error(error: BaseException) -> str:
    """An error on one line; what it cites may be as long as it likes."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}..."


def text_of(raw: bytes | str) -> str | None:
    """None if it is not UTF-8."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def parse_json(raw: bytes | str) -> Any:
    """JSON. Raises ValueError for what is none, or nested beyond reason."""
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
        if "no such key" not in str(error):  # another process has just done it
            raise
    logger.error(
        f"key={key} is a {found} and no {kind}: somebody has overwritten it;"
        f" it is kept as {key + ASIDE}"
    )
    return True


def hashes(connection: redis.Redis, *keys: str) -> list[dict[bytes, bytes]]:
    """The content of these hashes, which are ours; one of another type is set aside, and empty.

    One round trip unless there is such a one. Raises redis errors.
    """
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    for place, (key, answer) in enumerate(zip(keys, answers, strict=True)):
        if isinstance(answer, RedisError):
            if not (is_data_error(answer) and set_aside(connection, key)):
                raise answer
            answers[place] = {}
    return answers


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


def redo_what_is_refused(pipeline: Pipeline, connection: Any) -> None:
    """Have this transaction, when it is executed, set aside the lists, sets and streams that are of
    another type, and carry out again what it has for these. A job's own keys are left alone.
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
    """What its key has to be; None: it is left alone."""
    name, key = str(args[0]), str(args[1]) if len(args) > 1 else ""
    return None if key.startswith(_JOBS) else _KINDS.get(name)


def _redo(connection: Any, commands: list[tuple[Any, ...]], refused: tuple[Any, ...]) -> None:
    kind, key = _kind_for(refused), str(refused[1])
    if kind is None or not set_aside(connection, key, kind):
        return  # or it is out of the way since the refusal before
    for args in commands:
        if len(args) > 1 and str(args[1]) == key:
            connection.execute_command(*args)
