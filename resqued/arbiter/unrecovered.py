"""What an arbiter has to leave unrecovered, since Redis does not answer, kept for the next start.

A file in the state directory says of each worker how it ended: stopped, so that its job goes back
to its queue whatever the policy for deaths is, or dead by itself. Where there is no such file the
steward's sweep finds the jobs in Redis, and knows less. Runs in the arbiter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from resqued import linux
from resqued.config import Config
from resqued.core.handover import restore_recovery
from resqued.core.state import Recovery
from resqued.logs import logger
from resqued.printable import printable

_VERSION: Final = 1
_REST: Final = "*"


def keep(config: Config, identity: str, recoveries: list[Recovery]) -> None:
    """Write them down. identity: the arbiter's. Logs what is in the way."""
    kept = [_owned(each, identity) for each in recoveries if each.record.phase.holds_job]
    if not kept:
        return
    folder = _folder(config)
    if folder is None:
        logger.warning("no state directory: how these workers ended is not kept (--state DIR)")
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / f"{identity}.json", config, kept)
    except OSError as error:
        logger.warning(f"{folder}: how these workers ended is not kept: {error.strerror}")


def take(config: Config) -> list[Recovery]:
    """What other arbiters of this state directory have kept for this Redis and these queues."""
    folder, taken = _folder(config), []
    if folder is None or not folder.is_dir():
        return []
    for path in sorted(folder.glob("*.json")):
        mine = path.with_suffix(f".taken-{os.getpid()}")
        try:
            path.rename(mine)  # of two that start at once one gets it
        except OSError:
            continue
        try:
            found = _read(mine, config)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(f"{path}: not readable, passed over: {error}")
            continue  # it stays under the name that nobody reads
        if found is None:  # of another Redis
            _rename(mine, path)
            continue
        served: list[Recovery] = []
        others: list[Recovery] = []
        for each in found:
            (served if _serves(config, each) else others).append(each)
        taken += served
        with contextlib.suppress(OSError):
            if others:
                _write(path, config, others)
            mine.unlink()
    for each in taken:
        job_id = printable(each.record.job_id)
        logger.info(f"job={job_id} was left unrecovered by an arbiter before this one")
    return taken


def _rename(old: Path, new: Path) -> None:
    with contextlib.suppress(OSError):
        old.rename(new)


def _folder(config: Config) -> Path | None:
    return Path(config.state) / "unrecovered" if config.state else None


def _serves(config: Config, recovery: Recovery) -> bool:
    names = {queue.name for queue in config.queues}
    return _REST in names or recovery.record.queue in names


def _owned(recovery: Recovery, identity: str) -> Recovery:
    """Named as Redis names its worker, `resqued.broker.owner.Owner`: identity, machine, pid,
    birth and name. For all times, and for any arbiter."""
    record = recovery.record
    owner = f"{identity} {linux.machine()} {record.pid} {record.ticks} {record.name}"
    owner = recovery.owner or owner
    return replace(recovery, name=owner, owner=owner, generation=None, not_before=0.0, tries=0)


def _write(path: Path, config: Config, recoveries: list[Recovery]) -> None:
    plain = {
        "version": _VERSION,
        "redis": _server(config),
        "recoveries": [asdict(recovery) for recovery in recoveries],
    }
    fresh = path.with_suffix(f".new-{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(plain, file)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)


def _read(path: Path, config: Config) -> list[Recovery] | None:
    """None: it is of another Redis. Raises OSError, ValueError, KeyError, TypeError."""
    plain: dict[str, Any] = json.loads(path.read_text())
    if plain["version"] != _VERSION:
        raise ValueError(f"version {plain['version']}")
    if plain["redis"] != _server(config):
        return None
    return [restore_recovery(each) for each in plain["recoveries"]]


def _server(config: Config) -> str:
    """Which Redis, without a word of how to log in there."""
    parts = urlsplit(config.redis)
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]
