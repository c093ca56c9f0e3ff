"""Keeps deaths that could not be recovered, since Redis did not answer, for the next start.

A file in the state directory says whether each worker was stopped, so that its job goes back to its
queue, or died by itself, so that the policy for deaths holds. Without the file the steward finds
the jobs in Redis, but not how the workers ended. Runs in the arbiter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from resqued import linux, logs
from resqued.config import Config
from resqued.death import Death
from resqued.logs import LogEvent
from resqued.printable import printable

_VERSION: Final = 1
_REST: Final = "*"


def keep(config: Config, identity: str, deaths: Iterable[Death]) -> None:
    """Write the deaths to the file; log an error. identity: the arbiter's."""
    kept = [_owned(each, identity) for each in deaths if each.record.phase.holds_job]
    if not kept:
        return
    folder = _folder(config)
    if folder is None:
        logs.warning(
            "no state directory: how these workers ended is not kept (--state DIR)",
            LogEvent.ARBITER_NOTICE,
        )
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / f"{identity}.json", config, kept)
    except OSError as error:
        logs.warning(
            f"{folder}: how these workers ended is not kept: {error.strerror}",
            LogEvent.ARBITER_NOTICE,
        )


def take(config: Config) -> list[Death]:
    """What other arbiters of this state directory have kept for this Redis and these queues."""
    taken: list[Death] = []
    for path in _kept(_folder(config)):
        mine = path.with_suffix(f".taken-{os.getpid()}")
        try:
            path.rename(mine)  # of two arbiters that start at once one gets it
        except OSError:
            continue
        try:
            found = _read(mine, config)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logs.warning(f"{path}: not readable, passed over: {error}", LogEvent.ARBITER_NOTICE)
            continue  # it stays, under a name that is not read again
        if found is None:  # of another Redis
            _rename(mine, path)
            continue
        served: list[Death] = []
        others: list[Death] = []
        for each in found:
            (served if _serves(config, each) else others).append(each)
        taken += served
        with contextlib.suppress(OSError):
            if others:
                _write(path, config, others)
            mine.unlink()
    for each in taken:
        job_id = printable(each.record.job_id)
        logs.info(
            f"job={job_id} was left unrecovered by an arbiter before this one",
            LogEvent.ARBITER_NOTICE,
        )
    return taken


def _kept(folder: Path | None) -> list[Path]:
    """The files of other arbiters in this folder, which need not be there."""
    if folder is None:
        return []
    try:
        files = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:  # su, sudo and supervisord may leave another user's HOME
        logs.warning(
            f"{folder}: {error.strerror}: if an arbiter before this one has left jobs unrecovered,"
            " how their workers ended is not known; give a directory of this user's: --state DIR",
            LogEvent.ARBITER_NOTICE,
        )
        return []
    return [file for file in files if file.suffix == ".json"]


def _rename(old: Path, new: Path) -> None:
    with contextlib.suppress(OSError):
        old.rename(new)


def _folder(config: Config) -> Path | None:
    return Path(config.state) / "unrecovered" if config.state else None


def _serves(config: Config, death: Death) -> bool:
    names = {queue.name for queue in config.queues}
    return _REST in names or death.record.queue in names


def _owned(death: Death, identity: str) -> Death:
    """The death with its worker's name in Redis, `resqued.broker.owner.Owner`: identity, machine,
    pid, birth and name. It is unique across arbiters and restarts."""
    record = death.record
    owner = f"{identity} {linux.machine()} {record.pid} {record.ticks} {record.name}"
    return replace(death, owner=death.owner or owner)


def _write(path: Path, config: Config, deaths: list[Death]) -> None:
    plain = {
        "version": _VERSION,
        "redis": _server(config),
        "recoveries": [{"name": death.name, **death.as_plain()} for death in deaths],
    }
    fresh = path.with_suffix(f".new-{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(plain, file)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)


def _read(path: Path, config: Config) -> list[Death] | None:
    """None: it is of another Redis. Raises OSError, ValueError, KeyError, TypeError."""
    plain: dict[str, Any] = json.loads(path.read_text())
    if plain["version"] != _VERSION:
        raise ValueError(f"version {plain['version']}")
    if plain["redis"] != _server(config):
        return None
    return [Death.from_plain(each) for each in plain["recoveries"]]


def _server(config: Config) -> str:
    """Which Redis, without the credentials."""
    parts = urlsplit(config.redis)
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]
