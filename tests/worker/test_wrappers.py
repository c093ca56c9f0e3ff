"""A `perform_job` wrapper cannot swallow what ends its job early; a plain exception it can."""

from __future__ import annotations

import contextlib
import time

import pytest
from rq import Retry, get_current_job

from harness import jobs
from harness.oracle import assert_one_place_each
from resqued import hookimpl
from resqued.scoreboard import Order

SETTINGS = {
    "in the worker": {},
    "fork": {"isolation": ("fork",)},
    "rq.Worker": {"worker_class": "rq.Worker"},
    "rq.SimpleWorker": {"worker_class": "rq.SimpleWorker"},
}


@pytest.fixture(params=SETTINGS)
def settings(request):
    return SETTINGS[request.param]


class Swallows:
    @hookimpl(wrapper=True)
    def perform_job(self):
        try:
            return (yield)
        except BaseException:
            return None


class Transforms:
    @hookimpl(wrapper=True)
    def perform_job(self):
        try:
            return (yield)
        except BaseException:
            raise ValueError("transformed") from None


class SwallowsAndGoesOn:
    """It is hit before the job, which it then lets begin."""

    @hookimpl(wrapper=True)
    def perform_job(self, job):
        with contextlib.suppress(BaseException):
            jobs.sleep(60, job.meta["gate"])
        return (yield)


class SlowAfterwards:
    @hookimpl(wrapper=True)
    def perform_job(self, job):
        value = yield
        with contextlib.suppress(BaseException):
            jobs.sleep(60, job.meta["gate"])
        return value


def took_place():
    get_current_job().connection.set("took place", "yes")


# The timeout.


@pytest.mark.parametrize("plugin", [Swallows, Transforms])
def test_the_timeout_of_a_job_is_one(crew, queue, ends, settings, plugin):
    job = queue().enqueue(time.sleep, 60, job_timeout=1)
    crew.start(plugins=[plugin()], **settings)
    assert ends(job) == "failed"
    words = "JobTimeoutException", "transformed"
    assert any(word in job.latest_result().exc_string for word in words)


@pytest.mark.parametrize("isolation", ["worker", "fork"])
@pytest.mark.parametrize("plugin", [SwallowsAndGoesOn, SlowAfterwards])
def test_so_is_one_in_the_wrapper_itself(crew, queue, ends, gate, connection, plugin, isolation):
    job = queue().enqueue(took_place, meta={"gate": str(gate())}, job_timeout=1)
    crew.start(plugins=[plugin()], isolation=(isolation,))
    assert ends(job) == "failed"
    assert "JobTimeoutException" in job.latest_result().exc_string
    assert bool(connection.exists("took place")) == (plugin is SlowAfterwards)


def catch_the_timeout():
    with contextlib.suppress(Exception):
        time.sleep(60)
    return "caught"


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_a_job_that_catches_it_has_finished(crew, queue, ends, isolation):
    job = queue().enqueue(catch_the_timeout, job_timeout=1)
    crew.start(plugins=[Swallows()], isolation=(isolation,))
    assert ends(job) == "finished"
    assert job.latest_result().return_value == "caught"


# Cuts.


ORDERS = {Order.STOP: "stopped", Order.FAIL: "failed", Order.KILL: "failed"}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_an_order_decides(crew, queue, ends, gate, connection, isolation, order):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=None)
    hand = crew.start(plugins=[Swallows()], isolation=(isolation,))
    door.wait_until_reached()
    hand.told(order, "told to")
    assert ends(job) == ORDERS[order]
    assert_one_place_each(connection, [job.id])


def test_a_stop_with_now_puts_back(crew, queue, status, gate, connection, settings):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=Retry(3))
    hand = crew.start(plugins=[Swallows()], **settings)
    door.wait_until_reached()
    hand.stop_now()
    if hand.gone():  # of a class without horses
        assert hand.recovered(interrupted=True) == ["requeued"]
    assert status(job.id) == "queued"
    assert assert_one_place_each(connection, [job.id]) == {job.id: "queue:default"}


@pytest.mark.parametrize("order", [Order.STOP, Order.FAIL])
def test_a_wrapper_that_is_hit_before_its_job_does_not_begin_it(
    crew, queue, ends, gate, connection, order
):
    door = gate()
    job = queue().enqueue(took_place, meta={"gate": str(door)})
    hand = crew.start(plugins=[SwallowsAndGoesOn()])
    door.wait_until_reached()
    hand.told(order)
    assert ends(job) == ORDERS[order]
    assert not connection.exists("took place")


def test_interrupted_in_the_wrapper_after_its_job_it_goes_back(crew, queue, status, gate):
    door = gate()
    job = queue().enqueue(took_place, meta={"gate": str(door)})
    hand = crew.start(plugins=[SlowAfterwards()])
    door.wait_until_reached()
    hand.stop_now()
    assert hand.gone() == 0
    assert status(job.id) == "queued"


# What it may do.


def test_a_plain_exception_is_the_wrappers_to_take(crew, queue, ends, settings):
    job = queue().enqueue(jobs.fail)
    crew.start(plugins=[Swallows()], **settings)
    assert ends(job) == "finished"


def test_a_system_exit_too(crew, queue, ends, settings):
    job = queue().enqueue(jobs.leave, 3)
    crew.start(plugins=[Swallows()], **settings)
    assert ends(job) == "finished"
