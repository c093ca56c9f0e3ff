"""Settings in RQ's own forms: its settings module, and REDIS_* in the environment.

RQ's module is Python with names in capitals. It is imported by its name for each start and reload
anew, and only read: nothing of it stays in `sys.modules`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from resqued.kinds import NAME, take_queues
from resqued.plugins.errors import describe, place
from resqued.redis_url import NAMES, make_url, read_url, sentinel_url

VARIABLE: Final = "RQ_CONFIG"
"""RQ's environment variable for the name of its settings module."""

_UNUSED: Final = {
    "SENTRY_DSN": "initialise sentry_sdk in the application, which all workers share",
    "DICT_CONFIG": "configure logging in the application; resqued's own log has its flags",
}
"""Settings of RQ's worker that are not used here, and what to do instead."""

NOT_NEEDED: Final = {
    "--job-monitoring-interval": "leave it out: the steward sends the heartbeats of all workers",
    "--disable-job-desc-logging": "leave it out: descriptions of jobs are not logged",
}
"""Flags of `rq worker` that have no counterpart, and what to do instead."""


class BadModule(Exception):
    """The settings module cannot be used. The message names it and the remedy."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Found:
    """One value of RQ's: the setting that it is here, its source, how to read it."""

    setting: str
    source: str
    read: Callable[[], Any]


@dataclass
class RqSettings:
    """All that was found, weakest first, and warnings."""

    found: list[Found] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def of(self, setting: str) -> Iterator[Found]:
        return (value for value in self.found if value.setting == setting)


def names_module(text: str, directory: str) -> bool:
    """Whether `-c` names a settings module of RQ's rather than a config file."""
    if not text or os.path.lexists(Path(directory, text)):
        return False
    return not text.endswith(".py") and all(part.isidentifier() for part in text.split("."))


def from_environment(environ: Mapping[str, str]) -> RqSettings:
    """REDIS_URL, or REDIS_HOST and its like, which are weaker than all other sources.

    A variable REDIS_PORT of the form `tcp://10.0.0.1:6379` is that of a cluster's service links
    and not the server that has the jobs.
    """
    rq = RqSettings()
    given = {name: value for name, value in environ.items() if value}
    if "://" in given.get("REDIS_PORT", ""):
        rq.warnings.append(
            "REDIS_PORT is a URL, as Kubernetes sets it for a service named redis; it is ignored"
        )
        del given["REDIS_PORT"]
    _add_server(rq, given, "")
    return rq


def from_module(name: str) -> RqSettings:
    """The names in capitals of RQ's settings module. Raises BadModule.

    Its code runs here: in the arbiter, on each start and reload, and under `--check`.
    """
    values = _execute(name)
    rq = RqSettings()
    prefix = f"{name}: "
    _add_server(rq, values, prefix)
    if (queues := values.get("QUEUES")) is not None:
        rq.found.append(Found("queues", f"{prefix}QUEUES", lambda: take_queues(list(queues))))
    if (worker_name := values.get("NAME")) is not None:
        rq.found.append(Found("name", f"{prefix}NAME", lambda: NAME.take(worker_name)))
    for unused, remedy in _UNUSED.items():
        if values.get(unused):
            rq.warnings.append(f"{prefix}{unused} is not used; {remedy}")
    return rq


def _add_server(rq: RqSettings, given: Mapping[str, Any], prefix: str) -> None:
    if given.get("REDIS_URL") is not None:
        url = str(given["REDIS_URL"])
        rq.found.append(Found("redis", f"{prefix}REDIS_URL", lambda: read_url(url)))
        return
    if isinstance(watched := given.get("SENTINEL"), Mapping):  # a module's; not of the environment
        rq.found.append(Found("redis", f"{prefix}SENTINEL", lambda: sentinel_url(watched)))
        return
    named = [name for name in NAMES if given.get(name) not in (None, "")]
    if named:
        kept = {name: value for name, value in given.items() if value not in (None, "")}
        rq.found.append(Found("redis", f"{prefix}{named[0]}", lambda: make_url(kept)))


def _execute(name: str) -> dict[str, Any]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise BadModule(f"-c {name}: no module of that name can be found: {error}") from None
    if spec is None or spec.loader is None:
        raise BadModule(
            f"-c {name}: there is neither a file nor a module of that name; write the path of a"
            " config file of resqued, or the name of RQ's settings module (--path finds it)"
        )
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # as for any import: dataclasses and the like look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        detail = "".join(traceback.format_exception(error))
        raise BadModule(f"{name}: {describe(error)} ({place(error)})", detail) from error
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
    return {
        key: value for key, value in vars(module).items() if key.upper() == key and key[0] != "_"
    }
