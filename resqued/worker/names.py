"""A worker's name in RQ, which no other living worker bears.

With `--name` two arbiters may want the same names: the replicas of one deployment, a new container
beside the old one. RQ keeps a key a name, so the second bearer would write over the first, and the
first to leave would deregister both.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import redis
from rq.utils import now, utcformat, utcparse

from resqued import linux
from resqued.broker.connection import answer_time
from resqued.broker.oddities import text_of
from resqued.broker.owner import OWNER, Owner, owner_of, worker_key
from resqued.broker.script import read_script
from resqued.broker.strict import make_strict
from resqued.config import Config
from resqued.logs import logger
from resqued.worker.slot import Slot

_WANT: Final = read_script("want_name")


def settle_name(slot: Slot, connection: redis.Redis, identity: str) -> None:
    """Keep the name on the record, or take a longer one. identity: the arbiter's.

    Runs in the worker, before it registers. Raises redis errors.
    """
    given, config = slot.writer.record.name, slot.config
    if not identity or given.startswith(f"{identity}."):
        return  # nobody else has such names
    longer = f"{given}.{identity.rpartition('.')[2]}"
    for name in (given, longer):
        slot.writer.update(name=name)
        slot.owner = owner_of(slot.writer.record, identity)
        if _take(connection, name, slot.owner, config):
            break
    if (name := slot.writer.record.name) != given:
        logger.info(f"another worker is called {given}; this one is called {name}")
        make_strict(connection, name, answer_time(config))


def _take(connection: redis.Redis, name: str, owner: Owner, config: Config) -> bool:
    """False if a living worker bears it."""
    want = connection.register_script(_WANT)
    gone = ""
    while True:
        ttl = config.worker_ttl + 60
        answer = want([worker_key(name)], [OWNER, str(owner), gone, utcformat(now()), ttl])
        if answer is None:
            return True
        bearer, birth, beat = (text_of(raw) or "" for raw in answer)
        if gone == bearer or _lives(bearer, birth, beat, owner, config):
            return False
        gone = bearer


def _lives(bearer: str, birth: str, beat: str, ours: Owner, config: Config) -> bool:
    try:
        owner = Owner.parse(bearer)
    except ValueError:  # a worker of another kind, as long as it is registered
        return True
    if owner.arbiter == ours.arbiter:
        return False  # the worker before us in this slot
    if owner.machine == linux.machine() and (life := owner.life) is not linux.Life.UNKNOWN:
        return life is not linux.Life.DEAD
    try:
        return now() - utcparse(beat) < timedelta(seconds=config.dead_after)
    except ValueError:
        return bool(birth)
