"""`resquedctl why`, as it tells of situations that were made for real."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue, Retry, SimpleWorker
from rq.command import send_stop_job_command
from rq.executions import Execution
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.rate_limit import RateLimit
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.suspension import suspend

from harness import jobs
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for

COMMAND = str(BIN / "resquedctl")


@dataclass
class Told:
    """What the command has told of one thing."""

    status: int
    stories: list[dict[str, Any]]

    @property
    def story(self) -> dict[str, Any]:
        (only,) = self.stories
        return only

    @property
    def text(self) -> str:
        lines = [[each["headline"], *each["lines"], *each["remedies"]] for each in self.stories]
        return "\n".join(line for story in lines for line in story)


def why(*words: object) -> Told:
    """Run `resquedctl` with these words and `--json`."""
    done = _run([COMMAND, *map(str, words), "--json"])
    assert done.returncode in (0, 1), done.stderr
    return Told(done.returncode, json.loads(done.stdout)["stories"])


def _run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
        stdin=subprocess.DEVNULL,
    )


class Place:
    """A Redis without an arbiter, in which RQ makes the situations."""

    def __init__(self, url: str, connection: redis.Redis) -> None:
        self.url = url
        self.connection = connection
        self.mails = Queue("mails", connection=connection)

    def add(self, function: Callable[..., Any] = jobs.nothing, **options: Any) -> Job:
        return self.mails.enqueue(function, job_id=options.pop("job_id", "j1"), **options)

    def work(self, **options: Any) -> None:
        """RQ's own worker, in a burst."""
        worker = SimpleWorker([self.mails], connection=self.connection, **options)
        worker.work(burst=True, logging_level="CRITICAL")

    def register(self, state: str = "idle") -> SimpleWorker:
        """A stock worker that serves the queue, and does nothing."""
        worker = SimpleWorker([self.mails], name="f00", connection=self.connection)
        worker.register_birth()
        worker.set_state(state)
        return worker


def unserved(place):
    place.add()
    Queue("mial", connection=place.connection).enqueue(jobs.nothing, job_id="j2")
    return "j2"


def suspended(place):
    place.register()
    suspend(place.connection)
    place.add()


def paused(place):
    assert _run([COMMAND, "queue", "pause", "mails", "--url", place.url]).returncode == 0
    place.add()


def busy(place):
    place.register("busy")
    place.add()


def third(place):
    place.register()
    for job_id in ("a", "b"):
        place.add(job_id=job_id)
    place.add()


def twice(place):
    place.add()
    place.connection.rpush(place.mails.key, "j1")


def lost(place):
    place.add()
    place.connection.delete(place.mails.key)


def in_transit(place):
    place.add()
    key = IntermediateQueue.get_intermediate_queue_key(place.mails.key)
    place.connection.lmove(place.mails.key, key, "LEFT", "RIGHT")


def unscheduled(place):
    place.mails.enqueue_in(timedelta(hours=1), jobs.nothing, job_id="j1")


def scheduled(place):
    unscheduled(place)
    place.connection.set(RQScheduler.get_locking_key("mails"), "somebody")


def scheduled_nowhere(place):
    unscheduled(place)
    place.connection.delete(ScheduledJobRegistry.key_template.format("mails"))


def depends(place):
    place.add(job_id="parent")
    place.add(depends_on="parent")


def depends_on_a_failure(place):
    place.add(jobs.fail, job_id="parent")
    place.add(depends_on="parent")
    place.work()


def depends_on_a_canceled(place):
    parent = place.add(job_id="parent")
    place.add(depends_on="parent")
    parent.cancel()


def rate_limited(place):
    for job_id in ("a", "j1"):
        place.add(job_id=job_id, rate_limit=RateLimit("smtp", 1))


def canceled(place):
    place.add().cancel()


def created(place):
    Job.create(jobs.nothing, connection=place.connection, id="j1", origin="mails").save()


def finished(place):
    place.add(result_ttl=100)
    place.work()


def failed(place):
    place.add(jobs.fail, args=("no\nsuch box",))
    place.work()


def retried_by_rq(place):
    place.add(jobs.fail, retry=Retry(max=3, interval=600))
    place.work()


def expired(place):
    finished(place)
    place.connection.delete(Job.key_for("j1"))
    place.connection.delete(place.mails.finished_job_registry.key)


def expired_and_listed(place):
    finished(place)
    place.connection.delete(Job.key_for("j1"))


def expired_in_its_queue(place):
    place.add()
    place.connection.delete(Job.key_for("j1"))


def overwritten(place):
    place.connection.set(Job.key_for("j1"), "something else")


def started_nowhere(place):
    job = place.add()
    place.connection.delete(place.mails.key)
    job.set_status("started")


def runs_in_a_stock_worker(place):
    worker, job = place.register("busy"), place.add()
    place.connection.delete(place.mails.key)
    with place.connection.pipeline() as pipeline:
        Execution.create(job, 90, pipeline, worker_name=worker.name)
        job.prepare_for_execution(worker.name, pipeline)
        pipeline.execute()


def died_in_a_stock_worker(place):
    runs_in_a_stock_worker(place)
    place.connection.delete("rq:worker:f00")


SITUATIONS = [
    (unserved, "unserved", "no living worker serves", "There is a queue 'mails'"),
    (suspended, "suspended", "1st of 1, and all workers are suspended (`rq suspend`)"),
    (paused, "paused", "1st of 1, which is paused since", "resquedctl queue resume mails"),
    (busy, "busy", "and its only worker is busy"),
    (third, "waiting", "It waits in 'mails': 3rd of 3."),
    (twice, "unserved", "Its id is in queues twice (1st and 2nd in 'mails')"),
    (lost, "lost", "Its status is queued, but it is in no queue"),
    (in_transit, "in_transit", "on its way from 'mails' to a worker"),
    (unscheduled, "no_scheduler", ", in 1 h, and|, in 59 min", "and no scheduler runs for 'mails'"),
    (scheduled, "scheduled", "It is scheduled to be enqueued at"),
    (scheduled_nowhere, "lost", "the schedule of 'mails' does not have it"),
    (depends, "deferred", "It waits until 'parent' has ended."),
    (depends_on_a_failure, "dependency_failed", "rq requeue --queue mails parent"),
    (depends_on_a_canceled, "dependency_failed", "'parent', on which it depends, was canceled"),
    (rate_limited, "rate_limited", "its rate limit 'smtp': 1 of 1 jobs have a slot of it"),
    (canceled, "canceled", "It was canceled before it ran"),
    (created, "created", "It was created, and never enqueued."),
    (finished, "finished", "It has finished at", "Redis forgets it in 1 min"),
    (failed, "failed", "ValueError: no such box.", "It has no retries."),
    (retried_by_rq, "no_scheduler", "Its next try is at", "After that 2 retries are left."),
    (expired, "unknown", "There is no job with this id in Redis.", "Either it never existed"),
    (expired_and_listed, "gone", "RQ lists it as finished in 'mails', but its data is gone"),
    (expired_in_its_queue, "expired_in_queue", "Its id waits in 'mails' (1st), but its data is"),
    (overwritten, "overwritten", "Its key is a string and no hash"),
    (started_nowhere, "started_nowhere", "but no worker holds it"),
    (runs_in_a_stock_worker, "running", "It runs in RQ's own worker 'f00' on"),
    (died_in_a_stock_worker, "lost_worker", "which has died", "RQ's maintenance fails or retries"),
]


@pytest.mark.parametrize(
    ("make", "state", "phrases"),
    [(make, state, phrases) for make, state, *phrases in SITUATIONS],
    ids=[make.__name__ for make, *_ in SITUATIONS],
)
def test_a_job_in_redis_alone(valkey, connection, make, state, phrases):
    job_id = make(Place(valkey.url, connection)) or "j1"
    before = _keys(connection)
    told = why("why", "job", job_id, "--url", valkey.url)
    assert told.story["state"] == state, told.text
    for phrase in phrases:
        assert any(each in told.text for each in phrase.split("|")), told.text
    assert told.status == (1 if state == "unknown" else 0)
    assert _keys(connection) == before, "it only reads"


def _keys(connection: redis.Redis) -> set[bytes]:
    return set(connection.keys())


def test_what_a_running_arbiter_says_of_its_jobs(resqued, connection, queue, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    held = gate()
    runs = queue().enqueue(jobs.wait_at, str(held), job_timeout=100)
    held.wait_until_reached()
    waits = queue().enqueue(jobs.nothing)
    told = why("--control", arbiter.socket, "why", runs.id)
    assert told.story["state"] == "running"
    assert "It runs in worker 1 on " in told.text
    assert "(generation 1), since" in told.text
    assert "Its timeout is 1 min 40 s: it may run for another" in told.text
    told = why("--control", arbiter.socket, "why", waits.id)
    assert told.story["state"] == "busy", told.text
    assert "1st of 1, and its only worker is busy." in told.text
    told = why("--control", arbiter.socket, "why", "worker", 1)
    assert told.story["state"] == "busy"
    assert f"runs harness.jobs.wait_at (job {runs.id}, queue 'default')" in told.text
    told = why("--control", arbiter.socket, "why", "default")
    assert "It is served by 1 worker on all hosts (1 busy)." in told.text
    assert "Of this arbiter: 1." in told.text
    held.open()
    wait_for(lambda: waits.is_finished)
    told = why("--control", arbiter.socket, "why", waits.id)
    assert told.story["state"] == "finished"
    assert "It ran in worker 1 on" in told.text
    assert not connection.keys("rq:resqued:story:*"), "a plain job has no story"


def test_at_its_limit_in_the_fleet(resqued, queue, gate):
    arbiter = resqued("-n", 2, "--queue", "mails=1/fleet")
    arbiter.wait_for_workers(2)
    held = gate()
    queue("mails").enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    waits = queue("mails").enqueue(jobs.nothing)
    limited = "which is at its limit: 1 of 1 jobs run in the whole fleet"
    wait_for(lambda: limited in why("--control", arbiter.socket, "why", waits.id).text, 20)
    told = why("--control", arbiter.socket, "why", "mails")
    assert "at most 1 run at once in the whole fleet" in told.text


def test_put_back_by_a_stop_and_then_run(resqued, valkey, connection, queue, gate):
    arbiter = resqued("-n", 1)
    held = gate()
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    assert arbiter.stop("TERM") == 0
    told = why("why", job.id, "--url", valkey.url)
    assert told.story["state"] == "unserved"
    assert "put back to the front of its queue, by worker 1 on" in told.text
    assert "(generation 1): its arbiter was stopped." in told.text
    assert 0 < connection.ttl(f"rq:resqued:story:{job.id}") <= 7 * 86400


DEATHS = {
    "killed": (jobs.kill_self, (), "failed", "(generation 1): its worker died (signal 9)."),
    "its process": (jobs.vanish, (3,), "failed", "its worker died (exit status 3)."),
    "raised": (jobs.fail, ("full",), "failed", "ValueError: full"),
}


@pytest.mark.parametrize("how", DEATHS)
def test_how_a_job_ended(resqued, queue, how):
    function, arguments, state, phrase = DEATHS[how]
    arbiter = resqued("-n", 1, expect_errors="ended|failed|Error|Traceback")
    job = queue().enqueue(function, args=arguments)
    wait_for(lambda: job.get_status() == "failed", 20)
    told = why("--control", arbiter.socket, "why", job.id)
    assert told.story["state"] == state
    assert phrase in told.text


@pytest.mark.parametrize("way", [("--isolation", "fork"), ("-w", "rq.Worker")], ids="_".join)
def test_a_death_in_a_child_and_a_retry(resqued, queue, way):
    arbiter = resqued("-n", 1, *way, expect_errors="killed|retried|Error|horse|terminated")
    job = queue().enqueue(jobs.kill_self, retry=Retry(max=2, interval=600))
    wait_for(lambda: job.get_status() == "scheduled", 20)
    told = why("--control", arbiter.socket, "why", job.id)
    assert told.story["state"] == "scheduled"
    assert "Retry 1 of 2 is at " in told.text
    assert "to be retried, with 1 more retry, by worker 1 on" in told.text
    killed = "its process was killed by SIGKILL." if "fork" in way else "waitpid returned 9"
    assert killed in told.text


@pytest.mark.parametrize("way", [(), ("-w", "rq.Worker")], ids=["resqued", "horse"])
def test_an_exception_and_a_retry(resqued, queue, way):
    arbiter = resqued("-n", 1, *way, expect_errors="Error|Traceback|exception raised")
    job = queue().enqueue(jobs.fail, "full", retry=Retry(max=3, interval=[600]))
    wait_for(lambda: job.get_status() == "scheduled", 20)
    told = why("--control", arbiter.socket, "why", job.id)
    assert "Retry 1 of 3 is at " in told.text
    assert "(generation 1): ValueError: full." in told.text


def test_a_stopped_job(resqued, connection, queue, gate):
    arbiter = resqued("-n", 1)
    held = gate()
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 20)
    told = why("--control", arbiter.socket, "why", job.id)
    assert told.story["state"] == "stopped"
    assert "stopped, by worker 1 on" in told.text


def test_killed_as_stuck(resqued, queue, gate):
    arbiter = resqued("-n", 1, "--kill-after", 0.5, expect_errors="stuck|killed|ended|failed")
    job = queue().enqueue(jobs.stuck_in_c, job_timeout=1)
    wait_for(lambda: job.get_status() == "failed", 30)
    told = why("--control", arbiter.socket, "why", job.id)
    assert "stuck in job=" in told.text, told.text
    assert "past its deadline" in told.text


def test_a_worker_that_is_replaced_by_a_reload(resqued, queue, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    held = gate()
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    arbiter.control("reload", "--wait")
    told = why("--control", arbiter.socket, "why", "worker", 1)
    assert told.story["state"] == "leaving", told.text
    assert "finishes its job and leaves: a reload put another generation in service" in told.text
    assert "Its generation is old: 2 is in service." in told.text
    unwanted = why("--control", arbiter.socket, "why", "worker", 2)
    assert unwanted.story["state"] == "unwanted"
    assert unwanted.status == 1


def test_a_worker_that_is_young(resqued):
    arbiter = resqued("-n", 1, expect_errors="ended")
    (worker,) = arbiter.wait_for_workers(1).values()
    arbiter.signal("KILL", pid=worker.pid)
    died = "since it died: signal SIGKILL."

    def told() -> str:
        return why("--control", arbiter.socket, "why", "worker", 1).text

    wait_for(lambda: died in told(), 20)
    assert "It is young (" in told()
    arbiter.wait_for_workers(1)
    assert arbiter.control("recycle", 1, "--wait").returncode == 0
    wait_for(lambda: "since somebody asked for another in its place" in told(), 20)
    assert "one left after" in told()


def test_a_worker_that_waits_for_redis(resqued):
    arbiter = resqued("-n", 1, "--redis", "redis://localhost:1")
    arbiter.wait_for("does not answer")
    told = why("--control", arbiter.socket, "why", "worker", 1)
    assert told.story["state"] == "no_redis", told.text
    assert "waits for Redis, which does not answer" in told.text


def test_a_worker_that_backs_off(resqued):
    plugin = """
        from resqued import hookimpl
        import os

        @hookimpl
        def after_fork(worker):
            if os.path.exists("down"):
                raise RuntimeError("no database")
    """
    arbiter = resqued("-n", 1, config=plugin, expect_errors="after_fork|ended|database|Traceback")
    (worker,) = arbiter.wait_for_workers(1).values()
    (arbiter.directory / "down").touch()
    worker.kill()

    def backs_off() -> bool:
        told = why("--control", arbiter.socket, "why", "worker", 1)
        return told.story["state"] == "backing_off" and "in a row" in told.text

    wait_for(backs_off, 30)
    (arbiter.directory / "down").unlink()


def test_a_queue_with_the_name_of_a_job(valkey, connection):
    place = Place(valkey.url, connection)
    Queue("j1", connection=connection).enqueue(jobs.nothing, job_id="other")
    place.add()
    told = why("why", "j1", "--url", valkey.url)
    assert [each["kind"] for each in told.stories] == ["job", "queue"]
    assert [each["kind"] for each in why("why", "queue", "j1", "--url", valkey.url).stories] == [
        "queue"
    ]


def test_what_nobody_knows(valkey, connection):
    place = Place(valkey.url, connection)
    place.add(job_id="invoice-2026-1")
    told = why("why", "invoice-2026-2", "--url", valkey.url)
    assert told.status == 1
    assert "Is 'invoice-2026-1' meant?" in told.text
    told = why("why", "mial", "--url", valkey.url)
    assert (
        "There is no queue 'mial' in this Redis, and no worker serves it. Is 'mails'" in told.text
    )


@pytest.mark.parametrize(
    ("words", "status", "phrase"),
    [
        ([], 64, "Missing argument"),
        (["worker", "x"], 64, "'x' is no number of a worker"),
        (["worker", "0"], 64, "'0' is no number of a worker"),
        (["job"], 69, "no arbiter"),
        (["a", "b"], 64, "give one job's id, one queue's name, or one of"),
        (["j1", "--url", "http://x"], 64, "--url"),
        (["j1", "--url", "redis://localhost:1"], 69, "localhost:1"),
    ],
)
def test_what_is_asked_wrongly(words, status, phrase, tmp_path):
    named = ["--pid", str(tmp_path / "none")] if words in (["job"],) else []
    done = _run([COMMAND, *named, "why", *words])
    if words == ["job"]:
        assert done.returncode == 69
        return
    assert (done.returncode, done.stdout) == (status, "")
    assert phrase in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_names_in_any_encoding(valkey, connection, env):
    Queue("日本", connection=connection).enqueue(jobs.nothing)
    line = [COMMAND, "why", "--url", valkey.url, "queue", "日本"]
    done = subprocess.run(line, env=environment(**env), capture_output=True, timeout=scaled(30))
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()  # click writes UTF-8 where the encoding is ASCII
    assert re.match(r"queue (日本|\\u65e5\\u672c): 1 job waiting", shown)


def test_a_name_that_is_not_utf_8():
    line = [COMMAND.encode(), b"why", b"\xff"]
    done = subprocess.run(line, env=environment(), capture_output=True, timeout=scaled(30))
    assert (done.returncode, b"is not UTF-8" in done.stderr) == (64, True)


def test_text_for_people(valkey, connection):
    Place(valkey.url, connection).add()
    done = _run([COMMAND, "why", "j1", "--url", valkey.url])
    first, *rest = done.stdout.splitlines()
    assert first.startswith("job j1: It waits in 'mails': 1st of 1, which no living worker serves")
    assert rest[-1] == "  To do: start an arbiter with --queue mails."
    assert all(line.startswith("  ") for line in rest)


def test_of_a_worker_that_died_with_its_arbiter(resqued, valkey, queue, gate):
    first = resqued("-n", 1, expect_errors="killed")
    held = gate()
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    (worker,) = first.workers().values()
    for pid in (first.pid, *(server.pid for server in first.fork_servers()), worker.pid):
        first.signal("KILL", pid=pid)
    first.exit()
    assert why("why", job.id, "--url", valkey.url).story["state"] == "lost_worker"
    resqued("-n", 1, "--dead-after", 5)
    found = "its worker is dead, and so is its arbiter"
    wait_for(lambda: found in why("why", job.id, "--url", valkey.url).text, 40)


@pytest.mark.parametrize("word", ["worker", "3"])
def test_a_worker_is_named_by_its_kind_too(valkey, word):
    done = _run([COMMAND, "why", word, "--url", valkey.url])
    assert done.returncode == 1
    assert done.stderr == "of a worker tells: resquedctl why worker 3\n"


def test_what_any_client_has_written_does_not_move_the_cursor(valkey, connection):
    place = Place(valkey.url, connection)
    evil = "ev\x1b[2J\u202eil\nline"
    mails = Queue(evil, connection=connection)
    mails.enqueue(jobs.nothing, job_id="j1", description=evil)
    connection.hset("rq:job:j1", mapping={"status": evil, "worker_name": evil})
    connection.hset("rq:resqued:paused", evil, json.dumps({"by": evil, "since": 1.0}))
    connection.xadd("rq:resqued:story:j1", {"what": evil, "cause": evil, "worker": evil})
    place.add(job_id="j2")
    connection.hset("rq:job:j2", mapping={"status": evil, "origin": evil})
    connection.lrem("rq:queue:mails", 0, "j2")
    for words in (["j1"], ["j2"], ["queue", evil], ["job", evil]):
        done = _run([COMMAND, "why", "--url", valkey.url, *words])
        assert done.returncode in (0, 1), done.stderr
        shown = done.stdout + done.stderr
        assert not set(shown) & {"\x1b", "\u202e"}
        assert "\nline" not in shown
