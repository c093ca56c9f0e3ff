"""The probes of the built-in plugin `http`: `/livez` and `/readyz`."""

from __future__ import annotations

import time

import pytest

from harness.web import ANY, ask, port_of, wait_for_status
from resqued import LoopFacts, WorkerState
from resqued.testing import FakeArbiter, make_redis_facts, make_worker
from resqued_plugins.http import probes

NONE = "0 of 1 workers are ready"


def test_it_lives_while_the_loop_turns_whatever_redis_does():
    now = time.monotonic()
    dead = make_redis_facts(answers=False)
    assert probes.live(FakeArbiter(loop=LoopFacts(now - 29, 0.0), redis=dead), now).ok
    verdict = probes.live(FakeArbiter(loop=LoopFacts(now - 31, 0.0)), now)
    assert not verdict.ok
    assert verdict.facts["reason"] == "the loop has not turned for 31 s"


@pytest.mark.parametrize(
    ("arbiter", "reason"),
    [
        (FakeArbiter(workers=[make_worker()], redis=make_redis_facts()), None),
        (
            FakeArbiter(
                workers=[make_worker(job_id="j", state=WorkerState.STOPPING)],
                redis=make_redis_facts(),
            ),
            None,
        ),
        (FakeArbiter(workers=[make_worker()]), "it is not known whether Redis answers"),
        (
            FakeArbiter(workers=[make_worker(state=WorkerState.STOPPING)]),
            NONE,
        ),
        (FakeArbiter(workers=[make_worker(state=WorkerState.BOOTING)]), NONE),
        (FakeArbiter(), NONE),
        (
            FakeArbiter(workers=[make_worker()], redis=make_redis_facts(answers=False)),
            "Redis does not answer: Connection refused",
        ),
        (FakeArbiter(workers=[make_worker()], state="draining"), "draining"),
        (FakeArbiter(workers=[make_worker()], state="stopping"), "stopping"),
        (FakeArbiter(workers=[make_worker()], state="resting"), "resting"),
    ],
)
def test_it_is_ready_while_workers_are_and_redis_answers(arbiter, reason):
    verdict = probes.ready(arbiter, 1)
    assert verdict.facts.get("reason") == reason
    assert verdict.ok == (reason is None)


def test_a_service_gets_ready_rests_resumes_and_drains(resqued, queue, gate):
    arbiter = resqued("-n", 2, "--http", ANY, "--ready-workers", 2)
    port = port_of(arbiter)
    answer = wait_for_status(port, "/readyz", 200, timeout=20)
    assert answer.json == {"ready": True, "workers": 2, "needed": 2}
    assert ask(port, "/livez").json == {"live": True}
    arbiter.signal("WINCH")
    assert wait_for_status(port, "/readyz", 503).json["reason"] == "resting"
    arbiter.signal("HUP")
    wait_for_status(port, "/readyz", 200, timeout=20)
    held = gate()
    queue().enqueue("harness.jobs.wait_at", str(held))
    held.wait_until_reached()
    arbiter.signal("QUIT")
    answer = wait_for_status(port, "/readyz", 503)
    assert answer.json["reason"] == "draining"
    assert ask(port, "/livez").status == 200
    held.open()
    assert arbiter.exit() == 0


def test_too_few_workers_are_not_ready(resqued):
    arbiter = resqued("-n", 1, "--http", ANY, "--ready-workers", 2)
    arbiter.wait_for_workers(1)
    assert ask(port_of(arbiter), "/readyz").json == {
        "ready": False,
        "reason": "1 of 2 workers are ready",
        "workers": 1,
        "needed": 2,
    }


def test_it_lives_without_redis_and_is_not_ready(resqued):
    arbiter = resqued("-n", 1, "--http", ANY, "--redis", "unix:///nowhere/at/all")
    port = port_of(arbiter)
    assert wait_for_status(port, "/livez", 200).json == {"live": True}
    assert ask(port, "/readyz").status == 503


def test_a_reload_of_the_only_worker_with_a_job_keeps_it_ready(resqued, queue, gate):
    arbiter = resqued("-n", 1, "--http", ANY)
    port = port_of(arbiter)
    held = gate()
    wait_for_status(port, "/readyz", 200, timeout=20)
    queue().enqueue("harness.jobs.wait_at", str(held))
    held.wait_until_reached()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=20)
    assert ask(port, "/readyz").status == 200
    held.open()
    arbiter.wait_for("gen=1 retired", timeout=20)
    wait_for_status(port, "/readyz", 200)


def test_a_loop_that_stands_still_does_not_live(resqued):
    """A hook blocks the loop, and the thread goes on. The bound is lowered for the test."""
    arbiter = resqued(
        *("-n", 1, "--http", ANY),
        config="""
            import time
            from pathlib import Path
            from resqued_plugins.http import probes

            probes.STANDSTILL = 2.0

            def tick(arbiter, now):
                while Path("block").exists():
                    time.sleep(0.1)
        """,
        expect_errors="hook tick",
    )
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=20)
    block = arbiter.directory / "block"
    block.touch()
    answer = wait_for_status(port, "/livez", 503)
    assert "the loop has not turned for" in answer.json["reason"]
    block.unlink()
    wait_for_status(port, "/livez", 200)
