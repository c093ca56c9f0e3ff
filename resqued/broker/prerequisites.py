"""Check what Redis and RQ allow a worker to do, before its first job; errors name the remedy.

Without scripts and transactions no job can be claimed, so such a worker does not start. If only the
fast path is impossible, RQ's transactions are used. The server often does not tell its rules, so
each command is tried where it does no harm, on a key of resqued's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import redis
import rq.version
from redis.exceptions import NoPermissionError, ResponseError
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job
from rq.queue import Queue
from rq.worker import BaseWorker

from resqued.broker.hand import GIVE_BACK, STEP
from resqued.broker.wire import read_script, sha_of
from resqued.printable import listed
from resqued.verdicts import ConfigError

RQ_VERSIONS: Final = ("3.0",)
"""Releases of RQ, as prefixes of their numbers, whose writes are known to resqued."""

_KEY: Final = f"{RQ_KEY_PREFIX}:resqued:rights"
_LOOK: Final = read_script("rights")
_CALLED: Final = re.compile(r"call_?\('([A-Z]+)'|\b([A-Z]{2,}) = '")
_TRANSACTION: Final = re.compile(r"run the '(multi|exec)'")
COMMANDS: Final = tuple(sorted({"".join(names) for names in _CALLED.findall(STEP + GIVE_BACK)}))
"""All commands that a step calls: those in its text, and those of RQ's that it is given."""


def check_rights(connection: redis.Redis) -> MissingRights:
    """The commands that this Redis user may not call and the worker can do without. Runs in the
    worker, before it registers. Raises ConfigError for a command that every worker needs, and redis
    errors."""
    missing = find_missing_rights(connection)
    for names, category in ((missing.scripts, "scripting"), (missing.transactions, "transaction")):
        if names:
            user = _user_of(connection)
            raise ConfigError(
                "redis",
                f"user {user!r} may not call {listed(names)}, and no job can be taken without:"
                f" ACL SETUSER {user} +@{category}",
            )
    return missing


def why_no_script(connection: redis.Redis, missing: MissingRights) -> str:
    """Why the fast path cannot be used, with the remedy; empty: it can."""
    version = rq.version.VERSION
    if not version.startswith(tuple(f"{known}." for known in RQ_VERSIONS)):
        return (
            f"rq {version} is not known to resqued, so its jobs are taken and ended in RQ's way,"
            f" which is slower: install rq {listed(RQ_VERSIONS)}, or a newer resqued"
        )
    if missing.step:
        user = _user_of(connection)
        more = " ".join(f"+{name.lower()}" for name in missing.step)
        return (
            f"user {user!r} of redis may not call {listed(missing.step)}, as one script a job does,"
            f" so RQ's way it is, which is slower and may need it too: ACL SETUSER {user} {more}"
        )
    return ""


def _user_of(connection: redis.Redis) -> Any:
    return connection.connection_pool.connection_kwargs.get("username") or "default"


def is_supported(worker: BaseWorker) -> bool:
    """Whether the fast path would skip no method that a user's class overrides."""
    rqs = (
        "prepare_execution",
        "handle_job_success",
        "handle_job_failure",
        "handle_job_retry",
        "handle_execution_ended",
        "increment_successful_job_count",
        "increment_failed_job_count",
        "increment_total_working_time",
    )
    own = all(
        _is_unwrapped(type(worker), name) for name in (*rqs, "execute_job", "cleanup_execution")
    )
    job, queue = worker.job_class, worker.queue_class
    prefixes = (
        job.redis_job_namespace_prefix == Job.redis_job_namespace_prefix
        and queue.redis_queue_namespace_prefix == Queue.redis_queue_namespace_prefix
    )
    methods = ("fetch", "restore", "refresh", "prepare_for_execution", "key_for", "__init__")
    return (
        own and prefixes and all(_function(job, name) is _function(Job, name) for name in methods)
    )


def _function(cls: type, name: str) -> Any:
    method = getattr(cls, name)
    return getattr(method, "__func__", method)


def _is_unwrapped(cls: type, name: str) -> bool:
    """Whether a method is RQ's or resqued's, and not wrapped (`__wrapped__`)."""
    methods = [vars(each)[name] for each in cls.__mro__ if name in vars(each)]
    return not any(hasattr(method, "__wrapped__") for method in methods) and all(
        getattr(method, "__module__", "").partition(".")[0] in ("rq", "resqued")
        for method in methods
    )


@dataclass(frozen=True)
class MissingRights:
    """Commands that are forbidden. scripts, transactions: those without which no job can be
    claimed. step: those that a step calls."""

    scripts: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()
    step: tuple[str, ...] = ()


def find_missing_rights(connection: redis.Redis) -> MissingRights:
    """Try the commands, in two round trips. Raises redis errors, except for these commands."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.script_load(_LOOK)
        pipeline.evalsha(sha_of(_LOOK), 1, _KEY, *COMMANDS)
        loaded, forbidden = pipeline.execute(raise_on_error=False)
    scripts = [
        name
        for name, answer in (("SCRIPT LOAD", loaded), ("EVALSHA", forbidden))
        if _is_forbidden(answer)
    ]
    if not scripts:
        for answer in (loaded, forbidden):
            if isinstance(answer, Exception):
                raise answer
    step = forbidden if isinstance(forbidden, list) else []
    return MissingRights(
        tuple(scripts),
        tuple(_transactions_forbidden(connection)),
        tuple(name.decode() for name in step),
    )


def _transactions_forbidden(connection: redis.Redis) -> list[str]:
    try:
        with connection.pipeline(transaction=True) as pipeline:
            pipeline.exists(_KEY)
            pipeline.execute()
    except ResponseError as error:
        return [name.upper() for name in _TRANSACTION.findall(str(error))]
    return []


def _is_forbidden(answer: Any) -> bool:
    """Whether the command itself is refused, and not the key that it was tried on."""
    if isinstance(answer, NoPermissionError):
        return re.search(r"run the '|can't run this command", str(answer)) is not None
    return isinstance(answer, ResponseError) and "unknown command" in str(answer)
