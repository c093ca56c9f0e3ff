"""Two want to write the outcome of one execution: one does, and the other knows that it did not."""

from __future__ import annotations

import http.server
import threading

import pytest
from rq import Retry, get_current_job
from rq.job import Dependency
from rq.rate_limit import RateLimit
from rq.registry import StartedJobRegistry
from rq.webhook import Webhook

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, wait_for
from resqued import hookimpl
from resqued.scoreboard import Phase

# In the transaction that ends an execution so.
SUCCESS, FAILURE = b"$8\r\nfinished\r\n", b"failed_job_count"


@pytest.fixture
def bell():
    """A web server for webhooks; `bell.rung`: the paths that were asked for."""

    class Ring(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.rung.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ring) as server:
        server.rung = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(scaled(5))


@pytest.fixture
def dead(crew, queue, gate, bell):
    """`dead(**options)`: a worker that was killed while it ran a job, and that job."""

    def dead(**options):
        door = gate()
        job = queue().enqueue(
            jobs.wait_at, str(door), webhooks=[Webhook(f"{bell.url}/failed", "failed")], **options
        )
        hand = crew.start()
        door.wait_until_reached()
        hand.kill()
        return hand, job

    return dead


def overtake(crew, proxy, hand):
    """Two recoveries: the first is kept from sending its transaction until the second is done."""
    crew.url, direct = proxy.url, crew.url
    proxy.hold(FAILURE)
    first = hand.begin_recovery()
    assert proxy.held.wait(scaled(10))
    crew.url = direct
    second = hand.recovered()
    proxy.let_go()
    return [*second, *first()]


def test_recovery_that_comes_too_late(crew, proxy, dead, queue, connection, bell):
    hand, job = dead()
    after = queue().enqueue(jobs.noop, depends_on=Dependency([job], allow_failure=True))
    assert overtake(crew, proxy, hand) == ["failed", "clean"]
    places = assert_one_place_each(connection, [job.id, after.id])
    assert places == {job.id: "failed:default", after.id: "queue:default"}
    assert len(job.results()) == 1
    assert connection.hget(job.key, "deaths") == b"1"
    assert bell.rung == ["/failed"]
    log = crew.log.read_text()
    assert "somebody else has ended its execution" in log
    assert "reply was lost" not in log
    assert "Traceback" not in log
    assert log.count(f"failed job={job.id}") == 1


def test_retry_that_comes_too_late(crew, proxy, dead, connection, bell):
    hand, job = dead(retry=Retry(1))
    assert overtake(crew, proxy, hand) == ["retried", "clean"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "queue:default"}
    assert connection.hget(job.key, "retries_left") == b"0"
    assert bell.rung == []


def test_reply_of_a_recovery_is_lost(crew, proxy, dead, connection, bell):
    """Its own outcome, then: it says so, and sends the webhook."""
    hand, job = dead()
    crew.url = proxy.url
    proxy.swallow_reply(FAILURE)
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    assert bell.rung == ["/failed"]
    log = crew.log.read_text()
    assert "was written, but its reply was lost" in log
    assert "Traceback" not in log


class Outcomes:
    @hookimpl
    def after_job(self, job, outcome):
        job.connection.rpush("outcomes", outcome.status)


def ask_for_another():
    return Retry(1, interval=60)


@pytest.mark.parametrize(
    ("body", "options", "command"),
    [
        (jobs.noop, {}, SUCCESS),
        (jobs.fail, {}, FAILURE),
        (jobs.fail, {"retry": Retry(2, interval=60)}, FAILURE),
        (ask_for_another, {}, FAILURE),
    ],
    ids=["success", "failure", "retry later", "returned retry"],
)
def test_worker_whose_job_was_called_abandoned(
    crew, proxy, queue, connection, bell, body, options, command
):
    """RQ's maintenance, in a worker of another kind, thinks its worker dead meanwhile."""
    hooks = [Webhook(f"{bell.url}/{status}", status) for status in ("finished", "failed")]
    job = queue().enqueue(body, webhooks=hooks, **options)
    crew.url = proxy.url
    proxy.hold(command)
    hand = crew.start(plugins=[Outcomes()])
    assert proxy.held.wait(scaled(10))
    connection.hset(job.key, "retries_left", 0)
    StartedJobRegistry("default", connection).cleanup(2**40)
    proxy.let_go()
    hand.reached(Phase.IDLE)
    wait_for(lambda: hand.record.done == 1, 10, "the job to be off the record")
    assert connection.lrange("outcomes", 0, -1) == [b"superseded"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    assert job.get_status() == "failed"
    assert len(job.results()) == 1
    assert bell.rung == ["/failed"]  # from the maintenance
    assert f"superseded job={job.id}" in crew.log.read_text()


def act_on_itself(act):
    getattr(get_current_job(), act)()


@pytest.fixture
def left(connection):
    """`left()`: what Redis has of executions, by key."""

    def left():
        keys = connection.keys("rq:execution*") + connection.keys("rq:worker:*:executions")
        return keys + connection.hkeys("rq:resqued:running") + connection.keys("rq:wip:*")

    return left


ACTS = {"cancel": "canceled", "delete": ""}


@pytest.mark.parametrize("act", ACTS)
def test_job_that_ends_itself(crew, queue, status, left, act):
    """Nothing is left in Redis of its execution, at once."""
    job = queue().enqueue(act_on_itself, act)
    hand = crew.start()
    wait_for(lambda: hand.record.done == 1, 10, "the job to be off the record")
    assert left() == []
    assert status(job.id) == ACTS[act]
    assert "Traceback" not in crew.log.read_text()


@pytest.mark.parametrize("end", ["returns", "is stopped", "dies"])
@pytest.mark.parametrize("act", ACTS)
def test_job_that_somebody_ends_while_it_runs(crew, queue, gate, status, left, act, end):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    getattr(job, act)()
    if end == "dies":
        hand.kill()
        assert hand.recovered() == ["clean"]
    elif end == "is stopped":
        hand.stop_now()
        hand.gone()
    else:
        door.open()
        wait_for(lambda: hand.record.done == 1, 10, "the job to be off the record")
    assert left() == []
    assert status(job.id) == ACTS[act]


@pytest.mark.parametrize("act", ACTS)
def test_job_under_a_rate_limit_that_somebody_ends_while_it_runs(
    crew, queue, gate, ends, left, act
):
    """RQ keeps its place until the worker is through; then the next one has it."""
    door, limit = gate(), RateLimit("key", 1)
    job = queue().enqueue(jobs.wait_at, str(door), rate_limit=limit)
    after = queue().enqueue(jobs.noop, rate_limit=limit)
    crew.start()
    door.wait_until_reached()
    getattr(job, act)()
    door.open()
    assert ends(after) == "finished"
    wait_for(lambda: not left(), 10, "nothing to be left of the executions")


def test_dependents_that_are_added_meanwhile(crew, proxy, queue, connection, ends):
    """They are watched too: the transaction is simply tried again."""
    job = queue().enqueue(jobs.noop)
    crew.url = proxy.url
    proxy.hold(SUCCESS)
    crew.start()
    assert proxy.held.wait(scaled(10))
    after = queue().enqueue(jobs.noop, depends_on=job)
    proxy.let_go()
    assert ends(after) == "finished"
    assert len(job.results()) == 1
    assert "somebody else" not in crew.log.read_text()
