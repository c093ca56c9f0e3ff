"""Transactions that meet a key of another type: nothing that they say is lost.

Redis does not roll back: what it refuses in a transaction is left out, and the rest is done. A job
that leaves its place, but does not come into the next one, would be nowhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq.job import Job

from resqued.broker.oddities import is_of_the_data, set_aside

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
        if isinstance(answer, ResponseError) and is_of_the_data(answer):
            _redo(connection, commands, args)
    if raise_on_error:
        for number, (args, answer) in enumerate(zip(commands, answers, strict=True), 1):
            if isinstance(answer, Exception) and not _is_redone(args, answer):
                pipeline.annotate_exception(answer, number, args)
                raise answer
    return answers


def _is_redone(args: tuple[Any, ...], answer: Exception) -> bool:
    return is_of_the_data(answer) and _kind_for(args) is not None


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
