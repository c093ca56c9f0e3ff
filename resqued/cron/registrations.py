"""What has been registered in this process, by resqued.cron or by rq.cron, in its order.

RQ's registrations stand in a list of `rq.cron`, without the place of their call. `watch_rq` puts a
list in its stead that notes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

MOST: Final = 10_000
"""So many jobs can be registered in one process; more are taken for a loop that does not end."""

_CONFIG_FILE: Final = "resqued_conf"  # the name of the module that the config file is executed in


class TooMany(ValueError):
    """More than MOST jobs are registered."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST} cron jobs are registered; is it done in a loop?")


@dataclass(frozen=True)
class Registration:
    """One call of `register`. file is empty if the place of the call is not known."""

    arguments: Mapping[str, Any]
    file: str = ""
    line: int = 0
    of_rq: bool = False


_found: list[Registration] = []


def add(arguments: Mapping[str, Any], caller: FrameType, *, of_rq: bool = False) -> None:
    """Note a registration. Raises TooMany, and RuntimeError if the config file is the caller."""
    file, line = caller.f_code.co_filename, caller.f_lineno
    if caller.f_globals.get("__name__") == _CONFIG_FILE:
        raise RuntimeError(
            "a config file registers no cron jobs, since the arbiter executes it too; put them in a"
            " module of the application and name that: cron = ['myapp.cron']"
        )
    _append(Registration(arguments, file, line, of_rq))


def _append(registration: Registration) -> None:
    if len(_found) >= MOST:
        raise TooMany
    _found.append(registration)


def taken() -> tuple[Registration, ...]:
    """All of this process, which then has none any more."""
    found = tuple(_found)
    _found.clear()
    return found


class _Watched(list[dict[str, Any]]):
    """The list of `rq.cron`, to which its `register` appends."""

    def append(self, data: dict[str, Any]) -> None:
        add(data, sys._getframe(2), of_rq=True)
        super().append(data)


def watch_rq() -> None:
    """Have registrations of `rq.cron` noted here. Imports rq.

    Those from before are taken over, without their places.
    """
    import rq.cron

    if isinstance(rq.cron._job_data_registry, _Watched):
        return
    for data in rq.cron._job_data_registry:
        _append(Registration(data, of_rq=True))
    rq.cron._job_data_registry = _Watched(rq.cron._job_data_registry)
