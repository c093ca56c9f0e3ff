"""A reply is lost, a connection is cut, Redis refuses: each outcome is written exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest
from rq import Callback, Retry
from rq.job import Dependency

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, stays_true, wait_for
from resqued.scoreboard import Phase


@pytest.fixture
def proxied(crew, proxy):
    """The crew's workers reach Redis through the proxy."""
    crew.url = proxy.url
    return crew


# Bytes that are in the command whose reply is lost, by what the job is doing then.
TAKING = b"EVALSHA"
STARTING = b"PERSIST"
ENDING = b"successful_job_count"
FAILING = b"failed_job_count"
FINISHING = b"$8\r\nfinished\r\n"  # one script counts by itself


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
@pytest.mark.parametrize(
    ("fast_path", "command"),
    [("auto", TAKING), ("auto", FINISHING), ("off", TAKING), ("off", STARTING), ("off", ENDING)],
    ids=["one script, take", "one script, end", "take", "start", "end"],
)
def test_finished_once(proxied, proxy, queue, connection, ends, ledger, fault, fast_path, command):
    hand = proxied.start("a", "b", fast_path=fast_path)
    getattr(proxy, fault)(command)
    job = queue("b").enqueue(jobs.noop)
    assert proxy.swallowed.wait(scaled(10))
    assert ends(job) == "finished"
    wait_for(lambda: hand.record.done == 1, 10, "the job to be off the record")
    assert ledger.ended(job.id) == [job.id]
    assert len(job.results()) == 1
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:b"}
    assert not connection.hgetall("rq:resqued:claims")
    assert connection.hget(f"rq:worker:{hand.record.name}", "successful_job_count") == b"1"


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
def test_failed_once(proxied, proxy, queue, connection, ends, fault):
    hand = proxied.start("a", "b")
    getattr(proxy, fault)(FAILING)
    job = queue("b").enqueue(jobs.fail)
    after = queue("b").enqueue(jobs.noop, depends_on=Dependency([job], allow_failure=True))
    assert proxy.swallowed.wait(scaled(10))
    assert ends(job) == "failed"
    assert ends(after) == "finished"
    assert len(job.results()) == 1
    hand.reached(Phase.IDLE)


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
def test_retried_once(proxied, proxy, queue, connection, ends, ledger, fault):
    proxied.start("a", "b")
    getattr(proxy, fault)(FAILING)
    job = queue("b").enqueue(jobs.fail, retry=Retry(1))
    assert proxy.swallowed.wait(scaled(10))
    assert ends(job) == "failed"
    assert ledger.started(job.id) == [job.id] * 2
    assert_one_place_each(connection, [job.id])


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
def test_put_back_once(proxied, proxy, queue, connection, gate, fault):
    door = gate()
    job = queue("b").enqueue(jobs.sleep, 60, str(door))
    hand = proxied.start("a", "b")
    door.wait_until_reached()
    getattr(proxy, fault)(b"interruptions\r\n$1")  # HINCRBY, not the HGET before it
    hand.stop_now()
    assert hand.gone() == 0
    assert proxy.swallowed.is_set()
    assert queue("b").job_ids == [job.id]
    assert connection.hget(job.key, "interruptions") == b"1"
    assert hand.record.phase is Phase.LEFT


def test_dependents_when_the_reply_to_the_success_is_lost(proxied, proxy, queue, ends):
    proxied.start("a")
    proxy.swallow_reply(ENDING)
    job = queue("a").enqueue(jobs.noop)
    after = queue("a").enqueue(jobs.noop, depends_on=job)
    assert ends(job) == "finished"
    assert ends(after) == "finished"


@pytest.mark.parametrize("command", [b"ready_to_enqueue", b"RPUSH"], ids=["ready", "enqueue"])
@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
@pytest.mark.parametrize("body", [jobs.noop, jobs.fail])
def test_dependents_that_are_released_during_an_outage(
    proxied, proxy, queue, ends, connection, body, fault, command
):
    for name in "ab":  # RQ's maintenance would find them, minutes later
        connection.set(f"rq:resqued:maintained:{name}", "")
    job = queue("a").enqueue(body)
    after = queue("b").enqueue(jobs.noop, depends_on=Dependency([job], allow_failure=True))
    getattr(proxy, fault)(command)
    proxied.start("a", "b", wait=False)
    assert proxy.swallowed.wait(scaled(10))
    assert ends(after) == "finished"


def test_callback_runs_once_when_the_outcome_has_to_wait(proxied, proxy, queue, ends, gate):
    door = gate()
    door.open()
    job = queue("a").enqueue(jobs.wait_at, str(door), on_success=Callback(count_call))
    proxy.cut_before(ENDING)
    proxied.start("a")
    assert ends(job) == "finished"
    assert Path(f"{door}.calls").read_text() == "x"


def count_call(job, connection, result):
    with Path(f"{result}.calls").open("a") as file:
        file.write("x")


def test_outage_while_the_job_runs(proxied, proxy, queue, gate, ends, connection):
    door = gate()
    job = queue("a").enqueue(jobs.wait_at, str(door))
    hand = proxied.start("a", "b")
    door.wait_until_reached()
    proxy.refuse()
    door.open()
    hand.reached(Phase.RETURNED)
    stays_true(lambda: hand.record.phase is Phase.RETURNED, 0.5, "it waits for Redis")
    proxy.accept()
    assert ends(job) == "finished"
    assert ends(queue("b").enqueue(jobs.noop)) == "finished"


def test_redis_out_of_memory_is_waited_for(crew, queue, gate, ends, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    connection.config_set("maxmemory", 1)
    door.open()
    hand.reached(Phase.RETURNED)
    stays_true(lambda: hand.record.phase is Phase.RETURNED, 0.5, "it waits for memory")
    connection.config_set("maxmemory", 0)
    assert ends(job) == "finished"


def test_redis_as_a_replica_is_waited_for(crew, queue, gate, ends, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    connection.replicaof("127.0.0.1", 1)
    door.open()
    hand.reached(Phase.RETURNED)
    stays_true(lambda: hand.record.phase is Phase.RETURNED, 0.5, "it waits for the master")
    connection.replicaof("NO", "ONE")
    assert ends(job) == "finished"


def test_result_that_cannot_be_pickled(crew, queue, ends):
    crew.start()
    assert ends(queue().enqueue(unpicklable)) == "finished"  # RQ puts a notice in its place
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def unpicklable():
    return lambda: None


def test_password_refused(crew, valkey, connection, queue, ends):
    connection.config_set("requirepass", "sesame")
    try:
        hand = crew.start(wait=False)
        wait_for(lambda: "refuses access" in crew.log.read_text(), 10, "a line about it")
        assert hand.record.phase is Phase.CONNECTING
        assert "sesame" not in crew.log.read_text()
        hand.signal(15)
        assert hand.gone() == 0
    finally:
        connection.execute_command("AUTH", "sesame")
        connection.config_set("requirepass", "")


def test_job_hash_that_is_rubbish(crew, queue, connection, ends):
    connection.sadd("rq:queues", "rq:queue:default")
    connection.hset("rq:job:rubbish", mapping={"created_at": b"\xff\xfe", "data": b"\x00"})
    connection.rpush("rq:queue:default", "rubbish")
    connection.rpush("rq:queue:default", "no-such-job")
    crew.start()
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert assert_one_place_each(connection, ["rubbish"]) == {"rubbish": "failed:default"}
    assert not connection.hgetall("rq:resqued:claims")


def test_function_that_does_not_exist(crew, queue, ends):
    crew.start()
    assert ends(queue().enqueue("no.such.function")) == "failed"
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_hash_deleted_while_the_job_runs(crew, queue, gate, ends, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    job.delete()
    door.open()
    wait_for(lambda: hand.record.done == 1, 5, "the job to be over")
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_an_outcome_on_which_redis_hangs_up_does_not_stop_the_queue(crew, queue, ends, connection):
    """A result beyond proto-max-bulk-len: redis answers everything but this."""
    connection.config_set("proto-max-bulk-len", 1 << 20)
    try:
        crew.start("a")
        large = queue("a").enqueue("os.urandom", 3 << 20)
        after = queue("a").enqueue(jobs.noop)
        wait_for(lambda: after.get_status() == "finished", 40, "the next job to end")
        assert ends(large) == "failed"
    finally:
        connection.config_set("proto-max-bulk-len", 512 << 20)
