"""Keys of periodic jobs that another program has given another type."""

from __future__ import annotations

import pytest

from harness.cron_jobs import definition, turn
from resqued.broker.cron_control import read_kept
from resqued.broker.cron_keys import PREFIX, state_key


@pytest.mark.parametrize("key", ["rq:queue:q", "rq:cron_jobs", "rq:queues", "rq:scheduled:q"])
def test_a_key_of_another_type_is_named_and_tried_again(keeper, q, connection, log_lines, key):
    connection.set(key, "x")
    each = keeper(definition())
    each.step()
    assert f"key={key} is a string and no " in "".join(log_lines)
    connection.delete(key)
    turn(each, until=lambda: len(q.job_ids) > 0, what="the tick")


OWN = ["seen", "left", "jobs", "changes", "arbiter:one", "job:each second", "template:each second"]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("own", OWN)
def test_a_key_of_its_own_with_another_type_is_renamed(keeper, q, connection, own, started):
    each, key = keeper(definition()), PREFIX + own
    if started:
        each.step()
    connection.delete(key)
    connection.rpush(key, "x")
    each._due.beat = each._due.hear = 0.0
    before = len(q.job_ids)
    turn(each, until=lambda: len(q.job_ids) > before + 1, what="ticks")
    assert [job.name for job in read_kept(connection).jobs] == ["each second"]


def test_a_state_of_another_type_hides_no_other_job(keeper, connection):
    keeper(definition(), definition("another")).step()
    connection.delete(state_key("another"))
    connection.set(state_key("another"), "x")
    assert [job.name for job in read_kept(connection).jobs] == ["each second"]
