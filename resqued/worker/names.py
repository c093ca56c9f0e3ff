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
from resqued.config import Config
from resqued.logs import logger
from resqued.worker.connecting import answer_time
from resqued.worker.oddities import text_of
from resqued.worker.owning import OWNER, Owner, owner_of, worker_key
from resqued.worker.slot import Slot
from resqued.worker.strict import make_strict

# KEYS: a worker's key. ARGV: the field of the owner, who wants the name, who may lose it, now as RQ
# writes it, the key's TTL. Answers nothing when the name is ours, else who bears it: owner, birth,
# last heartbeat.
_WANT: Final = """
if redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HEXISTS', KEYS[1], 'death') == 0 then
    local bearer = redis.call('HGET', KEYS[1], ARGV[1]) or ''
    if bearer ~= ARGV[2] and (bearer == '' or bearer ~= ARGV[3]) then
        local birth = redis.call('HGET', KEYS[1], 'birth') or ''
        if bearer ~= '' or birth ~= '' then
            return {bearer, birth, redis.call('HGET', KEYS[1], 'last_heartbeat') or ''}
        end
    end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'last_heartbeat', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return false
"""


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
