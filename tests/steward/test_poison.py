"""One odd entry in a key that is read is named once and passed over; all else goes on."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from rq.command import send_stop_job_command
from rq.executions import Execution

from harness import jobs
from harness.oracle import places
from harness.waiting import wait_for
from resqued.linux import machine

QUICK = ("--dead-after", 4, "--maintenance-interval", 5, "--with-scheduler")
DEAD = f"other {machine()} 999999 1 w.dead"
DEEP = "[" * 200000
CLAIMS, RUNNING, ARBITERS = (f"rq:resqued:{name}" for name in ("claims", "running", "arbiters"))

POISONS = {
    "queues": lambda c: c.sadd("rq:queues", b"rq:queue:\xff\xfe", "rq:queue:", "x"),
    "workers": lambda c: (
        c.sadd("rq:workers", b"rq:worker:\xff", "rq:worker:odd"),
        c.set("rq:worker:odd", "x"),
        c.hset("rq:worker:w", mapping={"resqued_owner": DEAD, "queues": b"\xff"}),
        c.sadd("rq:workers", "rq:worker:w"),
    ),
    "claims": lambda c: (
        c.hset(CLAIMS, b"\xff\xfe", "j rq:queue:a"),
        c.hset(CLAIMS, DEAD, b"\xff\xfe rq:queue:a"),
        c.hset(CLAIMS, f"{DEAD}.2", "nothing"),
        c.hset(CLAIMS, f"{DEAD}.3", "j" * 70000 + " rq:queue:a"),
    ),
    "running": lambda c: c.hset(
        RUNNING,
        mapping={
            b"\xff:e": json.dumps([DEAD, "a"]),
            "j:e": DEEP,
            "k:e": '[{"a": 1}, [2]]',
            "l": json.dumps([DEAD, "a"]),
            "j" * 70000 + ":e": json.dumps([DEAD, "a"]),
        },
    ),
    "arbiters": lambda c: c.hset(
        ARBITERS,
        mapping={
            b"\xff": "{}",
            "a": DEEP,
            "b": json.dumps({"machine": machine(), "pid": None, "ticks": 1}),
            "c": json.dumps({"every": [1]}),
            "d": f'{{"machine": "{machine()}", "pid": 1e999, "ticks": 1}}',
        },
    ),
    "our hashes": lambda c: [
        (c.delete(key), c.set(key, "x")) for key in (CLAIMS, RUNNING, ARBITERS)
    ],
    "scheduled": lambda c: (
        c.set("rq:job:odd", "x"),
        c.hset("rq:job:bad", mapping={"status": "nonsense", "created_at": "yesterday"}),
        c.zadd("rq:scheduled:a", {"odd": 1, "bad": 1, b"\xff": 1}),
        c.set("rq:scheduled:b", "x"),
    ),
    "ready": lambda c: (
        c.sadd("rq:queues", "rq:queue:y", "rq:queue:z"),
        c.set("rq:ready:y", "x"),
        c.set("rq:job:odd", "x"),
        c.zadd("rq:ready:z", {"odd": 1, b"\xff": 1}),
    ),
    "transit": lambda c: (
        c.set("rq:queue:b:intermediate", "x"),
        c.hset("rq:job:bad", "created_at", "yesterday"),
        c.rpush("rq:queue:a:intermediate", b"\xff", "bad"),
    ),
    "the rest": lambda c: (
        c.sadd("rq:rl-keys", b"\xff"),
        c.sadd("rq:groups", b"\xff"),
        c.zadd("rq:wip:a", {b"\xff:e": 1, "no colon": 1}),
    ),
}


@pytest.mark.parametrize("name", POISONS)
def test_everything_else_goes_on(resqued, connection, queue, name):
    arbiter = resqued(
        "-n", 2, "--queue", "a", "--queue", "b", "--queue", "*", *QUICK, expect_errors="."
    )
    arbiter.wait_for_workers(2)
    steward = arbiter.wait_for_steward()
    POISONS[name](connection)

    made = [queue(each).enqueue(jobs.noop) for each in ("a", "b", "other")]
    made += [queue("a").enqueue_in(timedelta(seconds=0), jobs.noop)]
    stopped = queue("a").enqueue(jobs.sleep, 100)
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 30, "jobs to be done")
    wait_for(lambda: stopped.get_status() == "started", 20, "a job to be stopped")

    def stops():
        send_stop_job_command(connection, stopped.id)
        return stopped.get_status() == "stopped"

    wait_for(stops, 20, "stop-job")
    lost = queue("a").enqueue(jobs.noop, job_id="lost")
    with connection.pipeline() as pipeline:
        pipeline.lrem("rq:queue:a", 1, "lost")
        pipeline.rpush("rq:queue:a:intermediate", "lost")
        pipeline.hset(CLAIMS, f"gone {machine()} 999998 1 w.gone", "lost rq:queue:a")
        pipeline.execute()
    wait_for(lambda: lost.get_status() == "finished", 30, "what a dead arbiter held")
    assert arbiter.wait_for_steward().pid == steward.pid
    log = arbiter.log()
    assert not re.search(r"worker=\d+ gen=\d+ pid=\d+ ended", log), "no worker died of it"
    assert "[BUG]" not in log
    told = [line.split(" ", 3)[-1] for line in log.splitlines() if " ERROR " in line]
    assert len(told) <= len(set(told)) + 3, "each is named once, by each process at most"
    killed = queue("a").enqueue(jobs.kill_self)
    wait_for(lambda: killed.get_status() == "failed", 20, "a recovery")


def test_maintenance_of_other_jobs_goes_on(resqued, connection, queue):
    """Abandoned jobs of a stock worker: one cannot be read, two can."""
    made = []
    for name in ("a", "a", "z"):
        job = queue(name).enqueue(jobs.noop)
        queue(name).remove(job.id)
        with connection.pipeline() as pipeline:
            Execution.create(job, 1, pipeline)
            pipeline.execute()
        job.set_status("started")
        made.append(job)
    for name in "az":
        for member in connection.zrange(f"rq:wip:{name}", 0, -1):
            connection.zadd(f"rq:wip:{name}", {member: 100})
    connection.hset(made[0].key, "ended_at", "yesterday")
    arbiter = resqued("-n", 1, "--queue", "a", "--queue", "z", *QUICK, expect_errors=".")
    wait_for(
        lambda: {job.get_status() for job in made[1:]} == {"failed"}, 30, "the others to be failed"
    )
    wait_for(
        lambda: places(connection, [made[0].id]) == {made[0].id: ["failed:a"]},
        30,
        "the unreadable one to be failed",
    )
    assert "abandoned, and unreadable" in arbiter.log()
    assert connection.hexists(made[0].key, "data"), "its data are whole"
