"""From the queue into a worker's hand: ids whose jobs are gone, jobs that cannot even be begun,
what is no list, and a pause in which somebody else has put the job back."""

from __future__ import annotations

import pytest
from rq import Repeat
from rq.job import Job

from harness import jobs
from harness.oracle import assert_one_place_each, places
from harness.waiting import scaled, stays_true, wait_for
from resqued.broker.claims import Claims
from resqued.broker.hand import HANDS
from resqued.broker.owner import CLAIMS, split_claim
from resqued.scoreboard import Phase


class Touchy(Job):
    """A user's job class that raises at the last moment before the start."""

    def prepare_for_execution(self, worker_name, pipeline):
        if self.meta.get("touchy"):
            raise SystemExit("not today")
        super().prepare_for_execution(worker_name, pipeline)


# --- Ids whose jobs are gone -----------------------------------------------------------------


def test_a_burst_passes_over_what_is_gone(crew, connection, queue, ends):
    for name in "ab":
        connection.rpush(f"rq:queue:{name}", *[f"gone-{n}" for n in range(2500)])
    made = [queue("b").enqueue(jobs.nothing) for _ in range(3)]
    connection.rpush("rq:queue:b", b"\xff\xfe", "", "gone for good")
    hand = crew.start("a", "b", burst=True, wait=False)
    assert hand.gone() == 0
    assert {ends(job) for job in made} == {"finished"}
    assert not connection.exists("rq:queue:a", "rq:queue:b", CLAIMS)
    log = crew.log.read_text()
    assert "job=gone-0 of queue=a and 999 more is gone" in log
    assert log.count("is gone: deleted, expired or evicted") < 12


def test_what_is_gone_costs_next_to_nothing(crew, connection, queue, ends):
    crew.start("a")
    connection.rpush("rq:queue:a", *[f"gone-{n}" for n in range(20000)])
    job = queue("a").enqueue(jobs.nothing)
    connection.config_resetstat()
    assert ends(job, 30) == "finished"
    scripts = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert scripts < 60, "a thousand at a time"


def test_a_burst_passes_over_what_cannot_be_read(crew, connection, queue, ends):
    for number in range(3):
        connection.hset(f"rq:job:odd-{number}", mapping={"created_at": "yesterday", "data": "x"})
        connection.rpush("rq:queue:a", f"odd-{number}")
        made = queue("a").enqueue(jobs.nothing)
    hand = crew.start("a", burst=True, wait=False)
    assert hand.gone() == 0
    assert ends(made) == "finished"
    assert not connection.exists("rq:queue:a", CLAIMS)
    odd = [f"odd-{number}" for number in range(3)]
    assert set(assert_one_place_each(connection, odd).values()) == {"failed:a"}


def test_a_burst_learns_queues_that_were_made_meanwhile(crew, queue, ends):
    made = queue("first").enqueue(make_another, "second")
    hand = crew.start("*", burst=True, wait=False)
    assert hand.gone() == 0
    assert ends(made) == "finished"
    assert queue("second").job_ids == []
    assert queue("second").finished_job_registry.get_job_ids() == ["another"]


def make_another(name):
    from rq import Queue, get_current_job

    Queue(name, connection=get_current_job().connection).enqueue(jobs.nothing, job_id="another")


# --- Jobs that cannot be begun ---------------------------------------------------------------


def test_a_timeout_of_400_digits_fails_its_job_alone(crew, connection, queue, ends):
    job, after = queue().enqueue(jobs.noop), queue().enqueue(jobs.noop)
    connection.hset(job.key, "timeout", "9" * 400)
    hand = crew.start()
    assert (ends(job), ends(after)) == ("failed", "finished")
    assert hand.record.failed == 1, "the worker lives on"
    assert connection.hget(job.key, "deaths") is None
    assert not connection.exists(CLAIMS)


@pytest.mark.parametrize("name", ["success_callback_timeout", "failure_callback_timeout"])
@pytest.mark.parametrize("body", [jobs.nothing, jobs.fail])
def test_a_callback_timeout_of_400_digits(crew, connection, queue, ends, body, name):
    job, after = queue().enqueue(body), queue().enqueue(jobs.noop)
    connection.hset(job.key, name, "9" * 400)
    hand = crew.start()
    assert ends(after) == "finished"
    assert ends(job) in ("finished", "failed")
    hand.reached(Phase.IDLE)
    assert connection.hget(job.key, "deaths") is None


@pytest.mark.parametrize("worker_class", ["resqued.worker.rq_worker.ResquedWorker", "rq.Worker"])
def test_a_job_class_that_raises_before_the_start(crew, connection, queue, ends, worker_class):
    job = queue().enqueue(jobs.noop, meta={"touchy": True})
    after = queue().enqueue(jobs.noop)
    settings = {"worker_class": worker_class, "job_class": f"{__name__}.Touchy"}
    hand = crew.start(**settings)
    if worker_class == "rq.Worker":  # its own preparation does not call the method here
        assert ends(job) in ("failed", "finished")
    else:
        assert ends(job) == "failed"
        assert "not today" in Job.fetch(job.id, connection).latest_result().exc_string
    assert ends(after) == "finished"
    hand.reached(Phase.IDLE)
    assert not connection.exists(CLAIMS)
    assert connection.hget(job.key, "deaths") is None


def test_the_success_of_a_job_that_repeats_clears_what_was_counted(crew, connection, queue, ledger):
    for interval, place in ((0, "queue"), (60, "scheduled")):
        job = queue(place).enqueue(jobs.noop, repeat=Repeat(1, interval))
        connection.hset(job.key, mapping={"interruptions": 2, "deaths": 1})
        crew.start(place)
        wait_for(lambda job=job: ledger.started(job.id), 10, "it to run")
        wait_for(
            lambda job=job: not connection.hexists(job.key, "deaths"), 10, "its deaths forgotten"
        )
        assert not connection.hexists(job.key, "interruptions")


# --- Half a taking ---------------------------------------------------------------------------


def test_the_claim_comes_first(connection, valkey, queue):
    """Who may not move an id to the intermediate list, or not claim it, leaves it in its queue."""
    job = queue("a").enqueue(jobs.noop)
    for command in ("hset", "lmove"):
        user = f"no-{command}"
        connection.acl_setuser(
            user, enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{command}"]
        )
        limited = valkey.connect(username=user, password="any")
        with pytest.raises(Exception, match=r"permission|ACL"):
            Claims(limited, "me 1 2 3 4").take([queue("a")])
        connection.acl_deluser(user)
        assert places(connection, [job.id]) == {job.id: ["queue:a"]}
        assert not connection.exists(CLAIMS)


def test_an_intermediate_list_that_is_none_is_set_aside(crew, connection, queue, ends):
    connection.set("rq:queue:a:intermediate", "x")
    crew.start("a", fast_path="off")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
    assert connection.get("rq:queue:a:intermediate:set-aside") == b"x"
    assert "rq:queue:a:intermediate was no list" in crew.log.read_text()


def test_a_queue_that_is_no_list_is_named_once_and_passed_over(crew, connection, queue, ends):
    connection.set("rq:queue:a", "x")
    crew.start("a", "b")
    for _ in range(3):
        assert ends(queue("b").enqueue(jobs.noop)) == "finished"
    assert crew.log.read_text().count("rq:queue:a is no list") == 1
    connection.delete("rq:queue:a")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"


def test_claims_that_are_no_hash_are_set_aside(crew, connection, queue, ends):
    connection.set(CLAIMS, "x")
    crew.start("a", fast_path="off")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
    assert connection.get(f"{CLAIMS}:set-aside") == b"x"


def test_hands_that_are_no_hash_are_set_aside(crew, connection, queue, ends):
    connection.set(HANDS, "x")
    crew.start("a")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
    assert connection.get(f"{HANDS}:set-aside") == b"x"
    connection.delete(HANDS)
    connection.set(HANDS, "y")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
    assert connection.get(f"{HANDS}:set-aside") == b"y"
    assert connection.type(HANDS) == b"hash"


@pytest.mark.parametrize("job_id", ["a b", "a", "", "a  b c"])
def test_blanks_in_ids_and_queues(connection, job_id, queue):
    connection.hset(f"rq:job:{job_id}", "status", "queued")
    connection.rpush("rq:queue:c d", job_id)
    claims = Claims(connection, "me 1 2 3 4")
    taken = claims.take([queue("c d")])
    assert (taken.job_id, taken.queue_key) == (job_id, "rq:queue:c d")
    assert claims.holds(taken)
    (claim,) = connection.hvals(CLAIMS)
    assert split_claim(claim) == (job_id.encode(), b"rq:queue:c d")
    assert claims.put_back() == job_id
    assert connection.lrange("rq:queue:c d", 0, -1) == [job_id.encode()]


# --- A pause ---------------------------------------------------------------------------------


def test_a_pause_between_taking_and_beginning(crew, connection, proxy, queue, ends, ledger):
    """Meanwhile it was taken for dead, and what it had claimed was put back and done."""
    crew.url = proxy.url
    job = queue("a").enqueue(jobs.noop)
    proxy.hold(f"rq:job:{job.id}".encode())  # the reading of it, after the claim
    hand = crew.start("a", wait=False, dead_after=2.0, fast_path="off")
    hand.reached(Phase.TAKEN)
    assert proxy.held.wait(scaled(10))
    assert_one_place_each(connection, [job.id])
    (owner,) = connection.hkeys(CLAIMS)
    stays_true(lambda: hand.record.phase is Phase.TAKEN, 1, "more than a quarter of dead_after")
    assert Claims(connection, owner.decode()).put_back() == job.id
    crew.url = crew.server.url
    crew.start("a")
    assert ends(job) == "finished"
    proxy.let_go()
    hand.reached(Phase.IDLE)
    assert ledger.started() == [job.id]
    assert "was put back by another worker" in crew.log.read_text()
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
