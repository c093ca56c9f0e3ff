"""Duties of an application that gevent has patched."""

from __future__ import annotations

import pytest

from harness.duties import duties_file
from harness.waiting import stays_true, wait_for
from resqued.broker.keeper_locks import LIFE

APP = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.slow
def test_the_lock_is_kept_while_a_call_does_not_switch(resqued, calls, connection):
    text = """
        def spin(duty):
            import gevent
            gevent.sleep(0.01)
            say(f"{duty.token} begins")
            until = time.monotonic() + 20
            while not Path("go").exists() and time.monotonic() < until:
                pass
            duty.connection.set("spun", duty.token)
            say(f"{duty.token} ends")

        def duties(duties):
            duties.add("spin", spin, every=0.1, once="fleet", limit=60)
        """
    arbiter = resqued("-r", "app", app=APP, config=duties_file(text))
    wait_for(calls)
    stays_true(lambda: connection.pttl("rq:resqued:keeper:spin") > 0, LIFE, "the lock is kept")
    (arbiter.directory / "go").touch()
    wait_for(lambda: len(calls()) > 3)
    assert len({line.split()[0] for line in calls()}) == 1
