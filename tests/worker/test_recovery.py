"""A worker is killed; afterwards each id is in exactly one place, and it is the right one."""

from __future__ import annotations

import pytest
from rq import Retry
from rq.job import Dependency

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for
from resqued.scoreboard import Order, Phase

PAUSED = "worker.paused.PausedWorker"

# By phase: where the job must be when its worker died by itself, and when a stop ended it.
BY_ITSELF = {
    "begun": "queue",
    "taken": "queue",
    "sent": "queue",
    "prepared": "queue",  # one script has started it; where two steps do, its record says so
    "running": "failed",
    "returned": "failed",
    "executed": "finished",
    "written": "finished",
}
STOPPED = {**BY_ITSELF, "prepared": "queue", "running": "queue", "returned": "queue"}


@pytest.fixture
def killed(crew, queue, gate, monkeypatch):
    """`killed(point, *queues)`: a worker that was killed there, with the id of its job."""

    def killed(point, *queues, body=jobs.nothing, **options):
        door = gate()
        monkeypatch.setenv("RESQUED_PAUSE", f"{point} {door}")
        job = queue(queues[-1]).enqueue(body, **options)
        hand = crew.start(*queues, wait=False, worker_class=PAUSED)
        door.wait_until_reached()
        hand.kill()
        return hand, job

    return killed


@pytest.mark.parametrize("queues", [("one",), ("a", "b", "c")], ids=["one queue", "three"])
@pytest.mark.parametrize("point", BY_ITSELF)
def test_killed_at_each_phase(killed, connection, point, queues):
    hand, job = killed(point, *queues)
    hand.recovered()
    place = assert_one_place_each(connection, [job.id])[job.id]
    assert place == f"{BY_ITSELF[point]}:{queues[-1]}"
    assert not connection.smembers("rq:workers")
    assert not connection.hgetall("rq:resqued:claims")
    assert not connection.keys("rq:execution:*")


@pytest.fixture
def ahead(crew, queue, gate, monkeypatch):
    """A worker whose last step has written the outcome of one job and started the next, which it
    does not know yet; both jobs, and what lets it go on."""
    door = gate()
    monkeypatch.setenv("RESQUED_PAUSE", f"ahead {door}")
    both = [queue("a").enqueue(jobs.noop) for _ in range(2)]
    hand = crew.start("a", wait=False, worker_class=PAUSED)
    door.wait_until_reached()
    return hand, both, door


def test_killed_with_the_next_job_started(ahead, connection):
    hand, (first, second), _ = ahead
    hand.kill()
    hand.recovered()
    where = assert_one_place_each(connection, [first.id, second.id])
    assert where == {first.id: "finished:a", second.id: "queue:a"}
    assert not connection.smembers("rq:workers")


def test_stopped_with_the_next_job_started(ahead, crew, connection):
    hand, (first, second), door = ahead
    hand.stop_now()
    door.open()
    hand.gone()
    assert hand.record.phase is Phase.LEFT
    where = assert_one_place_each(connection, [first.id, second.id])
    assert where == {first.id: "finished:a", second.id: "queue:a"}
    assert not connection.smembers("rq:workers")
    assert f"finished job={first.id}" in crew.log.read_text()


@pytest.mark.parametrize("point", ["begun", "taken", "sent", "prepared", "running"])
def test_a_stopped_job_is_stopped_however_far_its_worker_came(killed, connection, point):
    hand, job = killed(point, "a", retry=Retry(3))
    assert hand.recovered(order=Order.STOP) == ["failed"]
    assert job.get_status() == "stopped"
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:a"}
    assert not connection.hgetall("rq:resqued:hands")


@pytest.mark.parametrize("point", STOPPED)
def test_killed_by_our_own_stop(killed, connection, queue, point):
    hand, job = killed(point, "a", "b")
    behind = queue("b").enqueue(jobs.nothing)
    hand.recovered(interrupted=True)
    assert assert_one_place_each(connection, [job.id])[job.id] == f"{STOPPED[point]}:b"
    if STOPPED[point] == "queue":
        assert queue("b").job_ids == [job.id, behind.id]
        assert job.get_status() == "queued"


@pytest.mark.parametrize("point", ["begun", "taken", "running", "executed"])
def test_several_recoveries_at_once_do_it_once(killed, connection, queue, point):
    hand, job = killed(point, "a")
    hand.recovered(times=4)
    place = assert_one_place_each(connection, [job.id])[job.id]
    assert place == f"{BY_ITSELF[point]}:a"
    assert len(job.results()) == (point not in ("begun", "taken"))
    if point == "running":
        assert connection.hget(job.key, "deaths") == b"1"


def test_a_job_that_its_worker_had_not_heard_of_is_put_back_and_counted(killed, connection):
    for times in range(1, 10):
        hand, job = killed("begun", "a")
        connection.hset(job.key, "unbegun", times - 1)
        assert hand.recovered() == ["requeued"]
        assert connection.hget(job.key, "unbegun") == b"%d" % times
        assert not connection.hexists(job.key, "deaths")
        connection.delete("rq:queue:a")
    hand, job = killed("begun", "a")
    connection.hset(job.key, "unbegun", 9)
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:a"}
    assert "died 10 times before it heard" in job.latest_result().exc_string
    assert not connection.exists("rq:resqued:hands", "rq:resqued:running", "rq:wip:a")


def test_a_job_that_kills_whoever_reads_it_fails_at_the_third_death(crew, queue, connection):
    """Nor does it kill its recoveries."""
    job = queue().enqueue(jobs.noop, meta={"bomb": jobs.Bomb()})
    behind = queue().enqueue(jobs.noop)
    verdicts = []
    for _ in range(3):
        hand = crew.start(wait=False)
        hand.gone()
        verdicts += hand.recovered()
    assert verdicts == ["requeued", "requeued", "failed"]
    where = assert_one_place_each(connection, [job.id, behind.id])
    assert where == {job.id: "failed:default", behind.id: "queue:default"}


def test_recovered_twice_is_recovered_once(killed, connection):
    hand, job = killed("running", "a", retry=Retry(5))
    assert hand.recovered() == ["retried"]
    assert hand.recovered() == ["clean"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "queue:a"}


def test_says_what_killed_it(killed):
    hand, job = killed("running", "a")
    hand.recovered()
    text = job.latest_result().exc_string
    assert "signal 9" in text
    assert "test" in text  # the arbiter's reason


def test_retries_are_used_up_by_deaths(killed, crew, queue, ends, gate, monkeypatch):
    hand, job = killed("running", "a", retry=Retry(1))
    assert hand.recovered() == ["retried"]
    monkeypatch.setenv("RESQUED_PAUSE", "")
    crew.start("a")
    assert ends(job) == "finished"


def test_job_that_kills_every_worker_is_failed(crew, queue, connection, status):
    job = queue().enqueue(jobs.kill_self, retry=Retry(10))
    verdicts = []
    for _ in range(3):
        hand = crew.start(wait=False)
        hand.gone()
        verdicts += hand.recovered()
    assert verdicts == ["retried", "retried", "failed"]
    assert "killed its worker 3 times" in job.latest_result().exc_string


def test_requeue_policy(crew, queue, connection, status):
    queue().enqueue(jobs.kill_self)
    verdicts = []
    for _ in range(3):
        hand = crew.start(wait=False, on_worker_death="requeue")
        hand.gone()
        verdicts += hand.recovered()
    assert verdicts == ["requeued", "requeued", "failed"]


def test_counters_are_cleared_by_success(killed, crew, connection, monkeypatch, ends):
    hand, job = killed("running", "a", retry=Retry(5))
    hand.recovered()
    assert connection.hget(job.key, "deaths") == b"1"
    monkeypatch.setenv("RESQUED_PAUSE", "")
    crew.start("a")
    assert ends(job) == "finished"
    assert not connection.hmget(job.key, "deaths", "interruptions")[0]


def test_dependents_of_a_failed_job_run(killed, crew, queue, ends, monkeypatch):
    hand, job = killed("running", "a")
    after = queue("a").enqueue(jobs.noop, depends_on=Dependency([job], allow_failure=True))
    assert hand.recovered() == ["failed"]
    monkeypatch.setenv("RESQUED_PAUSE", "")
    crew.start("a")
    assert ends(after) == "finished"


def test_dependents_of_a_job_whose_worker_died_after_the_outcome(
    killed, crew, queue, ends, monkeypatch, gate
):
    hand, job = killed("executed", "a")
    after = queue("a").enqueue(jobs.noop, depends_on=job)
    hand.recovered()
    monkeypatch.setenv("RESQUED_PAUSE", "")
    crew.start("a")
    assert ends(after) == "finished"


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
def test_dependents_that_a_recovery_is_cut_off_from(killed, crew, proxy, connection, queue, fault):
    """RQ only logs that it could not enqueue them."""
    hand, _ = killed("executed", "a")
    after = queue("a").enqueue(jobs.noop)
    queue("a").remove(after.id)
    after.set_status("ready_to_enqueue")
    connection.zadd("rq:ready:a", {after.id: 1})
    crew.url = proxy.url
    getattr(proxy, fault)(b"RPUSH")
    hand.recovered()
    assert proxy.swallowed.is_set()
    assert queue("a").job_ids == [after.id]
    assert not connection.zcard("rq:ready:a")


def test_long_job_id(killed, connection):
    hand, job = killed("running", "a", job_id="x" * 400)
    assert hand.record.overflow
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:a"}


def test_job_deleted_while_it_ran(killed, connection, queue):
    hand, job = killed("running", "a")
    job.delete()
    assert hand.recovered() == ["clean"]
    assert not connection.keys("rq:execution:*")
    assert queue("a").started_job_registry.count == 0


def test_waits_for_redis(killed, crew, valkey):
    hand, _ = killed("running", "a")
    valkey.stop()
    finish = hand.begin_recovery()
    wait_for(lambda: "does not answer" in crew.log.read_text(), 5, "it to have tried")
    valkey.start()
    assert finish() == ["failed"]


def test_idle_worker_leaves_nothing(crew, connection):
    hand = crew.start("a")
    hand.kill()
    assert hand.recovered() == ["nothing"]
    assert not connection.smembers("rq:workers")


def test_same_name_again_before_the_recovery(killed, crew, queue, gate, connection, ends):
    hand, _ = killed("running", "a", body=jobs.nothing)
    hand2 = crew.start("a", name=hand.record.name, wait=False)
    wait_for(lambda: hand2.record.ready, 10, "the second")
    hand.recovered()
    assert connection.smembers("rq:workers") == {f"rq:worker:{hand.record.name}".encode()}
    hand2.reached(Phase.IDLE)
