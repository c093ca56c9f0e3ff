"""What this user may do in Redis, asked before it is needed.

The server is not asked about its rules, which it often does not tell; each command is tried where
it does no harm, on a key of resqued's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError, ResponseError
from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.hand import GIVE_BACK, STEP
from resqued.broker.script import read_script
from resqued.broker.wire import sha_of

_KEY: Final = f"{RQ_KEY_PREFIX}:resqued:rights"
_LOOK: Final = read_script("rights")

_CALLED: Final = re.compile(r"call_?\('([A-Z]+)'|\b([A-Z]{2,}) = '")

COMMANDS: Final = tuple(sorted({"".join(names) for names in _CALLED.findall(STEP + GIVE_BACK)}))
"""All that a step calls, by its text, with what RQ's code has it call."""


@dataclass(frozen=True)
class Lacks:
    """Commands that are forbidden. scripts: of those without which no job can be taken. step: of
    those that a step calls."""

    scripts: tuple[str, ...] = ()
    step: tuple[str, ...] = ()


def look(connection: redis.Redis) -> Lacks:
    """One round trip. Raises redis errors, but not for the commands that are looked at."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.script_load(_LOOK)
        pipeline.evalsha(sha_of(_LOOK), 1, _KEY, *COMMANDS)
        loaded, told = pipeline.execute(raise_on_error=False)
    scripts = [
        name
        for name, answer in (("SCRIPT LOAD", loaded), ("EVALSHA", told))
        if _is_forbidden(answer)
    ]
    if not scripts:
        for answer in (loaded, told):
            if isinstance(answer, Exception):
                raise answer
    step = told if isinstance(told, list) else []
    return Lacks(tuple(scripts), tuple(name.decode() for name in step))


def _is_forbidden(answer: Any) -> bool:
    """Whether the command itself is refused, and not the key it was tried on."""
    if isinstance(answer, NoPermissionError):
        return re.search(r"run the '|can't run this command", str(answer)) is not None
    return isinstance(answer, ResponseError) and "unknown command" in str(answer)
