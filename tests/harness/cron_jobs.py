"""Definitions of periodic jobs, and keepers of them in the test's own process."""

from __future__ import annotations

from harness.waiting import wait_for
from resqued.broker.cron_keys import state_key
from resqued.cron.definition import Definition

FUNCTION = "harness.jobs.noop"

EVERY_MINUTE = {"interval": None, "cron": "* * * * *"}


def definition(name="each second", **changes) -> Definition:
    plain = {"function": FUNCTION, "args": (), "kwargs": {}, "queue": "q", "timezone": "UTC"}
    plain |= {"interval": 0.2, "cron": None, "name": name, **changes}
    return Definition(**plain)


def turn(*keepers, until, what):
    """Have them do what is due, until this is true."""

    def step():
        for each in keepers:
            each.step()
        return until()

    wait_for(step, what=what)


def state(connection, key="each second"):
    return connection.hgetall(state_key(key))
