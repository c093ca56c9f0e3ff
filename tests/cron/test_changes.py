"""Which definition of a periodic job is in force, and what another one keeps of it."""

from __future__ import annotations

import json
import math
import time

import pytest

from harness.cron_jobs import EVERY_MINUTE, definition, state, turn
from resqued.broker import cron_records
from resqued.broker.cron_control import read_kept
from resqued.broker.cron_keys import PREFIX, SEEN, state_key
from resqued.cron.misfire import Misfire
from resqued.cron.moments import HEAR
from resqued.cron.outlook import UNHEARD


def test_a_definition_that_was_loaded_later_is_in_force(keeper, q, connection, log_lines):
    old = keeper(definition(queue="old"), age=100, arbiter="old")
    new = keeper(definition(queue="q"), age=10, arbiter="new")
    new.step()
    old.step()
    old.step()
    assert json.loads(state(connection)[b"definition"])["queue"] == "q"
    assert "has loaded another definition later; it is in force" in "".join(log_lines)
    connection.zrem(f"{PREFIX}seen", "new")  # as if it were silent
    again = keeper(definition(queue="old"), age=100, arbiter="old")
    turn(again, until=lambda: connection.llen("rq:queue:old"), what="the old one to go on")


def test_the_schedules_of_two_definitions_are_told(keeper, connection, log_lines):
    keeper(definition(**EVERY_MINUTE), age=10, arbiter="new").step()
    keeper(definition(interval=90.0), age=100, arbiter="old").step()
    assert "later ('* * * * *' in the zone UTC; here every 90 s)" in "".join(log_lines)


def test_an_older_definition_goes_on_soon_after_the_newer_one_has_died(keeper, q, connection):
    old = keeper(definition(queue="old"), age=100, arbiter="old")
    keeper(definition(queue="q"), age=10, arbiter="new").step()
    old.step()
    connection.zrem(f"{PREFIX}seen", "new")  # as if it were silent for DEAD_AFTER
    began = time.monotonic()
    turn(old, until=lambda: connection.llen("rq:queue:old"), what="the old one to go on")
    assert time.monotonic() - began < HEAR / 2


def test_an_older_definition_goes_on_at_once_when_the_newer_arbiter_has_left(
    keeper, q, connection, monkeypatch
):
    monkeypatch.setattr("resqued.cron.keeper.CONTEND", math.inf)  # only what others tell counts
    old = keeper(definition(queue="old"), age=100, arbiter="old")
    keeper(definition(queue="q"), age=10, arbiter="new").step()
    old.step()
    cron_records.leave(connection, "new")
    turn(old, until=lambda: connection.llen("rq:queue:old"), what="the old one to go on")


def test_a_change_keeps_the_last_tick(keeper, q, connection):
    keeper(definition(interval=600)).step()
    keeper(definition(interval=600, options={"job_timeout": 5}), arbiter="two").step()
    assert len(q.job_ids) == 1


SCHEDULES = {
    "another expression": ({"interval": None, "cron": "0 3 * * *"}, EVERY_MINUTE),
    "another interval": ({"interval": 86400.0}, {"interval": 60.0}),
    "an expression for an interval": ({"interval": 86400.0}, EVERY_MINUTE),
    "an interval for an expression": (EVERY_MINUTE, {"interval": 86400.0}),
    "another zone": (
        {"interval": None, "cron": "0 3 * * *", "timezone": "Asia/Tokyo"},
        {"interval": None, "cron": "0 * * * *", "timezone": "Asia/Kolkata"},
    ),
}


@pytest.mark.parametrize("misfire", [Misfire.ONCE, Misfire.ALL])
@pytest.mark.parametrize("arbiter", ["one", "two"])
@pytest.mark.parametrize(("before", "after"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_another_schedule_makes_up_for_nothing(
    keeper, q, connection, log_lines, before, after, arbiter, misfire
):
    """Also if the last tick of the old one was long ago: it was no tick of the new one."""
    keeper(definition(misfire=misfire, **before)).step()
    connection.hincrbyfloat(state_key("each second"), "last", -7230)
    if before.get("interval"):
        connection.hincrbyfloat(state_key("each second"), "first", -7230)
    connection.delete(q.key)
    if arbiter == "two":
        cron_records.leave(connection, "one")
    new = keeper(definition(misfire=misfire, **after), arbiter=arbiter)
    new.step()
    new.step()
    if connection.time()[0] % 60 > 1:  # it is no tick by chance
        assert q.job_ids == []
    assert "missed" not in "".join(log_lines)


def test_another_schedule_has_missed_what_came_while_no_arbiter_was_there(keeper, q, connection):
    daily = {"interval": None, "cron": "0 3 * * *"}
    keeper(definition(**daily)).step()
    connection.hincrbyfloat(state_key("each second"), "last", -7230)
    connection.zincrby(SEEN, -600, "one")  # it has died ten minutes ago
    keeper(definition(**EVERY_MINUTE), arbiter="two").step()
    assert len(q.job_ids) == 1
    assert state(connection)[b"missed"] in (b"9", b"10")


def test_an_interval_that_was_an_expression_goes_on_from_the_last_tick(keeper, q, connection):
    keeper(definition(**EVERY_MINUTE)).step()
    last = float(state(connection)[b"last"]) - 30.0
    connection.hset(state_key("each second"), "last", last)
    keeper(definition(interval=40.0)).step()
    assert q.job_ids == []
    assert float(state(connection)[b"first"]) == pytest.approx(last, abs=0.01)


def heard(connection):
    return [job.heard for job in read_kept(connection).jobs]


def test_a_job_that_a_reload_takes_away_is_nobodys_at_once(keeper, connection):
    other = definition("another")
    keeper(definition(), other).step()
    keeper(definition(), arbiter="two").step()
    keeper(other).step()
    assert max(heard(connection)) < UNHEARD
    keeper(other, arbiter="two").step()
    gone, kept = reversed(heard(connection))
    assert kept < UNHEARD < gone
    keeper(definition(), other).step()
    assert max(heard(connection)) < UNHEARD


def test_so_are_those_of_the_last_arbiter_that_leaves(keeper, connection):
    for arbiter in ("one", "two"):
        keeper(definition(), arbiter=arbiter).step()
    cron_records.leave(connection, "one")
    assert max(heard(connection)) < UNHEARD
    cron_records.leave(connection, "two")
    assert min(heard(connection)) > UNHEARD


def test_one_that_was_away_comes_back_with_another_schedule(keeper, q, connection):
    keeper(definition(interval=None, cron="0 3 * * *"), definition("another")).step()
    connection.hincrbyfloat(state_key("each second"), "last", -7230)
    keeper(definition("another")).step()
    connection.delete(q.key)
    keeper(definition(interval=600.0), definition("another", interval=600.0)).step()
    assert q.job_ids == []


def test_enabled_again_it_counts_from_now(keeper, q, connection):
    keeper(definition(cron="* * * * *", interval=None), age=3).step()
    keeper(definition(cron="* * * * *", interval=None, enabled=False), age=2).step()
    connection.hincrbyfloat(state_key("each second"), "last", -300)
    keeper(definition(cron="* * * * *", interval=None), age=1).step()
    assert q.job_ids == []
    assert float(state(connection)[b"last"]) == pytest.approx(time.time(), abs=5)
