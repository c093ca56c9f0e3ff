"""Stories as they are told, one situation a line: what is known, and what has to be said of it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from resqued.why.facts import (
    Dependency,
    Held,
    JobFacts,
    PastEvent,
    PastExit,
    PastResult,
    QueueNow,
    SlotFacts,
    WorkerFacts,
)
from resqued.why.job import tell_job
from resqued.why.queue import tell_queue
from resqued.why.words import clock, counted, listing, numbers, ordinal, rate, span
from resqued.why.worker import tell_worker

NOW = time.mktime((2026, 11, 30, 14, 0, 0, 0, 0, -1))
WORKER = WorkerFacts("web1.7-ab.3.9", "web1", 3, 2, arbiter="7-ab", here=True, state="busy")
IDLE = replace(WORKER, state="idle")
STOCK = WorkerFacts("f00", "old", stock=True, state="idle")
MAILS = QueueNow("mails", waiting=120, workers=(IDLE, STOCK), scheduler=True)
JOB = JobFacts("j1", status="queued", function="app.send", queue="mails", timeout=180)
WAITS = replace(JOB, places={"mails": (41,)}, at=MAILS, enqueued=NOW - 90)
RUNS = replace(JOB, status="started", started=NOW - 10, holders=(Held(WORKER, alive=True),))
OVER = replace(JOB, started=NOW - 70, ended=NOW - 60, worker=WORKER, kept=440.0)
FAILED = replace(
    OVER,
    status="failed",
    registries=("failed",),
    results=(PastResult("failed", NOW - 60, "ValueError: no such box"),),
)
SCHEDULED = replace(JOB, status="scheduled", due=NOW + 3600, at=MAILS)
DEFERRED = replace(JOB, status="deferred", at=MAILS)


def waits(**changes) -> JobFacts:
    return replace(WAITS, at=replace(MAILS, **changes))


def event(what: str, cause: str, **more) -> PastEvent:
    return PastEvent(NOW - 300, what, cause, replace(WORKER, here=False), **more)


def gone(**changes) -> JobFacts:
    return JobFacts("j1", kind="none", **changes)


JOBS = {
    "runs": (RUNS, "running", "It runs in worker 3 on web1 (generation 2), since 13:59:50 (10 s)."),
    "its timeout": (RUNS, "running", "may run for another 2 min 50 s"),
    "past its timeout": (
        replace(RUNS, started=NOW - 200),
        "running",
        "It is 20 s past its timeout of 3 min",
    ),
    "without a timeout": (replace(RUNS, timeout=-1.0), "running", "It has no timeout."),
    "runs in a stock worker": (
        replace(RUNS, holders=(Held(STOCK),)),
        "running",
        "It runs in RQ's own worker 'f00' on old",
    ),
    "taken": (
        replace(JOB, holders=(Held(WORKER, begun=False, alive=True),)),
        "taken",
        "was taken by worker 3 on web1 (generation 2), and is about to begin",
    ),
    "its worker has died": (
        replace(RUNS, holders=(Held(WORKER, alive=False),)),
        "lost_worker",
        "It ran in worker 3 on web1 (generation 2) since 13:59:50, which has died.",
    ),
    "its machine has died": (
        replace(RUNS, holders=(Held(replace(WORKER, here=False, registered=False)),)),
        "lost_worker",
        "--dead-after",
    ),
    "runs twice": (
        replace(RUNS, holders=(Held(WORKER, alive=True), Held(STOCK))),
        "running",
        "It also runs in RQ's own worker 'f00' on old",
    ),
    "started, and nobody has it": (
        replace(JOB, status="started", started=NOW - 10, worker=WORKER),
        "started_nowhere",
        "started at 13:59:50 by worker 3 on web1 (generation 2), but no worker holds it",
    ),
    "waits": (WAITS, "waiting", "It waits in 'mails': 41st of 120."),
    "when it starts": (
        waits(per_minute=60.0),
        "waiting",
        "At 60 a minute it starts in about 40 s.",
    ),
    "nobody serves it": (
        waits(workers=(), near=("mail",)),
        "unserved",
        "41st of 120, which no living worker serves, on any host",
        "There is a queue 'mail': is the name misspelt?",
    ),
    "paused": (
        waits(paused=True, paused_by="ann@web1", paused_since=NOW - 60, workers=(IDLE,)),
        "paused",
        "41st of 120, which is paused since 13:59:00 by ann@web1",
        "resquedctl queue resume mails",
    ),
    "paused, beside a stock worker": (
        waits(paused=True),
        "paused",
        "RQ's own workers do not obey that: 'f00' on old.",
    ),
    "at its limit": (
        waits(limit=20, started=20),
        "at_limit",
        "which is at its limit: 20 of 20 jobs run in the whole fleet",
    ),
    "suspended": (waits(suspended=True), "suspended", "all workers are suspended (`rq suspend`)"),
    "all are busy": (
        waits(workers=(WORKER, replace(WORKER, number=4), replace(WORKER, number=5)), started=3),
        "busy",
        "and all 3 workers that serve it are busy.",
    ),
    "busy with others": (
        waits(workers=(WORKER,), started=0),
        "busy",
        "and its only worker is busy with a job of another queue",
    ),
    "silent workers": (
        waits(workers=(replace(IDLE, beat=300.0),)),
        "silent",
        "and nothing was heard of its 1 worker for 5 min",
    ),
    "an idle stock worker": (
        waits(workers=(replace(STOCK, beat=300.0),)),
        "waiting",
        "41st of 120.",
    ),
    "queued twice": (
        replace(WAITS, places={"mails": (3, 41)}),
        "waiting",
        "Its id is in queues twice (3rd and 41st in 'mails'): it runs once for each.",
    ),
    "in a queue, but finished": (
        replace(WAITS, status="finished"),
        "waiting",
        "But its status is finished",
    ),
    "in transit": (
        replace(JOB, transit="mails"),
        "in_transit",
        "on its way from 'mails' to a worker",
    ),
    "lost": (JOB, "lost", "Its status is queued, but it is in no queue"),
    "scheduled": (SCHEDULED, "scheduled", "to be enqueued at 15:00:00, in 1 h."),
    "no scheduler": (
        replace(SCHEDULED, at=replace(MAILS, scheduler=False)),
        "no_scheduler",
        "at 15:00:00, in 1 h, and no scheduler runs for 'mails'",
    ),
    "scheduled long ago": (
        replace(SCHEDULED, due=NOW - 60),
        "scheduled",
        "That was 1 min ago: the scheduler is behind",
    ),
    "scheduled nowhere": (replace(SCHEDULED, due=None), "lost", "does not have it"),
    "a retry": (
        replace(
            SCHEDULED,
            due=NOW + 600,
            retries_done=2,
            retries_left=1,
            events=(event("retried", "ValueError: full", left=1),),
        ),
        "scheduled",
        "Retry 2 of 3 is at 14:10:00, in 10 min.",
        "13:55:00: to be retried, with 1 more retry, by worker 3 on web1 (generation 2): "
        "ValueError: full.",
    ),
    "a dependency waits": (
        replace(DEFERRED, dependencies=(Dependency("a", "queued"), Dependency("b", "finished"))),
        "deferred",
        "It waits until 'a' has ended.",
        "It depends on 'b', which has finished.",
    ),
    "a dependency has failed": (
        replace(DEFERRED, dependencies=(Dependency("a", "failed", "low"),)),
        "dependency_failed",
        "It never starts by itself: 'a', on which it depends, has failed.",
        "rq requeue --queue low a",
    ),
    "a dependency may fail": (
        replace(DEFERRED, goes_on=True, dependencies=(Dependency("a", "failed"),)),
        "deferred",
        "all jobs that it depends on have ended",
    ),
    "a dependency was canceled": (
        replace(DEFERRED, dependencies=(Dependency("a", "canceled"),)),
        "dependency_failed",
        "'a', on which it depends, was canceled",
    ),
    "a dependency is gone": (
        replace(DEFERRED, dependencies=(Dependency("a"),)),
        "deferred",
        "'a', which is not in Redis any more: RQ counts that as finished",
    ),
    "rate limited": (
        replace(JOB, status="rate_limited", rate_limit="smtp", rate=(5, 5)),
        "rate_limited",
        "It waits for its rate limit 'smtp': 5 of 5 jobs have a slot of it.",
    ),
    "finished": (
        replace(OVER, status="finished"),
        "finished",
        "It has finished at 13:59:00 after 10 s.",
        "It ran in worker 3 on web1 (generation 2).",
        "Redis forgets it in 7 min 20 s.",
    ),
    "failed": (
        FAILED,
        "failed",
        "It has failed at 13:59:00 after 10 s: ValueError: no such box.",
        "rq requeue --queue mails j1",
    ),
    "failed after retries": (
        replace(FAILED, retries_done=3, retries_left=0),
        "failed",
        "It was retried 3 of 3 times.",
    ),
    "failed, and not listed": (
        replace(FAILED, registries=()),
        "failed",
        "RQ's registry of failed jobs of 'mails' does not list it.",
    ),
    "out of memory": (
        replace(FAILED, events=(event("failed", "out of memory", memory=1_900_000_000),)),
        "failed",
        "13:55:00: failed, by worker 3 on web1 (generation 2): out of memory; it had 1.9 GB.",
    ),
    "put back by a reload": (
        replace(RUNS, events=(event("put_back", "a reload had put another in service"),)),
        "running",
        "13:55:00: put back to the front of its queue, by worker 3 on web1 (generation 2): a",
    ),
    "interrupted before": (
        replace(RUNS, interruptions=2, deaths=1),
        "running",
        "It was put back twice by stops of its worker and has killed its process once before.",
    ),
    "stopped": (replace(OVER, status="stopped"), "stopped", "It was stopped by a command at 13:59"),
    "canceled": (replace(JOB, status="canceled"), "canceled", "It was canceled before it ran"),
    "created": (replace(JOB, status="created"), "created", "It was created, and never enqueued."),
    "a status of tomorrow": (replace(JOB, status="dreaming"), "dreaming", "does not know"),
    "never existed, or expired": (
        gone(near=("j12",)),
        "unknown",
        "There is no job with this id in Redis. Is 'j12' meant?",
        "Either it never existed there",
    ),
    "gone, with a story": (
        gone(events=(event("put_back", "its arbiter was stopped"),)),
        "gone",
        "It is not in Redis any more: deleted, expired or evicted. The last that is known of it is"
        " of 13:55:00.",
    ),
    "gone, its id waits": (
        gone(places={"mails": (2,)}),
        "expired_in_queue",
        "Its id waits in 'mails' (2nd), but its data is gone",
    ),
    "gone, and listed": (
        gone(registries=("finished",), queue="mails"),
        "gone",
        "RQ lists it as finished in 'mails', but its data is gone",
    ),
    "gone while it runs": (
        gone(holders=(Held(WORKER, alive=True),)),
        "running",
        "but its data is gone: deleted, expired or evicted while it ran",
    ),
    "overwritten": (JobFacts("j1", kind="list"), "overwritten", "Its key is a list and no hash"),
}


@pytest.mark.parametrize("case", JOBS)
def test_a_job(case):
    facts, state, *phrases = JOBS[case]
    told = tell_job(facts, NOW)
    text = "\n".join([told.headline, *told.lines, *told.remedies])
    assert told.state == state, text
    for phrase in phrases:
        assert phrase in text
    assert ".." not in text
    assert "None" not in text


QUEUES = {
    "unknown": (QueueNow("mial", known=False, near=("mail",)), "unknown", "Is 'mail' meant?"),
    "empty": (replace(MAILS, waiting=0), "empty", "Nothing waits in 'mails'."),
    "drains": (
        replace(MAILS, per_minute=12.0, oldest=600.0),
        "draining",
        "120 jobs waiting in 'mails'.",
        "The first of them has waited for 10 min.",
        "It drains at about 12 a minute: the last that waits now starts in about 10 min, at 14:10",
        "It is served by 2 workers on all hosts (2 idle).",
        "Of this arbiter: 3.",
        "RQ's own among them, which obey neither pauses nor limits: 'f00' on old.",
    ),
    "drains at an unknown pace": (MAILS, "draining", "How fast it drains is not known"),
    "unserved": (replace(MAILS, workers=()), "unserved", "which no living worker serves"),
    "paused and empty": (
        replace(MAILS, waiting=0, paused=True, workers=(IDLE,)),
        "paused",
        "Nothing waits in 'mails', which is paused.",
    ),
    "paused": (
        replace(MAILS, paused=True, workers=(IDLE,)),
        "paused",
        "Nothing of it starts until that has changed.",
    ),
    "limited": (replace(MAILS, limit=5), "draining", "at most 5 run at once in the whole fleet"),
    "no scheduler": (
        replace(MAILS, scheduled=3, scheduler=False),
        "draining",
        "No scheduler runs for it: 3 scheduled jobs will not start.",
    ),
}


@pytest.mark.parametrize("case", QUEUES)
def test_a_queue(case):
    facts, state, *phrases = QUEUES[case]
    told = tell_queue(facts, NOW)
    text = "\n".join([told.headline, *told.lines, *told.remedies])
    assert told.state == state, text
    for phrase in phrases:
        assert phrase in text


SLOT = SlotFacts(
    3,
    wanted=4,
    alive=True,
    pid=812,
    phase="idle",
    generation=2,
    current=2,
    queues=("a",),
    age=600.0,
)
BUSY = replace(
    SLOT, phase="running", job="j1", function="app.f", queue="a", job_age=12.0, timeout=180.0
)
LEFT = PastExit(NOW - 60, reason="on request", cause="reload", seconds=3600.0)

WORKERS = {
    "idle": (SLOT, "idle", "Worker 3, pid 812, generation 2, is idle"),
    "busy": (BUSY, "busy", "runs app.f (job j1, queue 'a') since 12 s.", "another 2 min 48 s"),
    "slow": (replace(BUSY, job_age=200.0), "slow", "it is 20 s over it"),
    "stuck": (replace(BUSY, overdue=5.0), "stuck", "is stuck in app.f (job j1, queue 'a'): 5 s"),
    "without a timeout": (replace(BUSY, timeout=-1.0), "busy", "Its job has no timeout."),
    "boots": (replace(SLOT, phase="booting", age=2.0), "booting", "boots since 2 s"),
    "waits for redis": (
        replace(SLOT, phase="connecting", redis_error="refused", redis_since=30.0),
        "no_redis",
        "waits for Redis, which does not answer for 30 s: refused.",
    ),
    "writes while redis is away": (
        replace(BUSY, phase="returned", redis_error="refused"),
        "no_redis",
        "and Redis does not answer: refused",
    ),
    "suspended": (replace(SLOT, suspended=True), "suspended", "workers are suspended"),
    "paused": (replace(SLOT, paused=("a",)), "paused", "all its queues are paused"),
    "leaving": (
        replace(BUSY, told="reload"),
        "leaving",
        "finishes its job and leaves: a reload put another generation in service.",
    ),
    "young": (
        replace(SLOT, age=30.0, exits=(LEFT,)),
        "idle",
        "It is young (30 s): the one before it left at 13:59:00, since a reload put another",
    ),
    "died of memory": (
        replace(SLOT, exits=(replace(LEFT, out_of_memory=True, job="j9"),)),
        "idle",
        "13:59:00: one left after 1 h: the kernel killed it, since memory was out. It held job j9.",
    ),
    "recycled": (
        replace(SLOT, exits=(replace(LEFT, reason="recycled", cause=""),)),
        "idle",
        "it was recycled",
    ),
    "backs off": (
        replace(
            SLOT,
            alive=False,
            backs_off=4.0,
            failures=3,
            exits=(replace(LEFT, reason="exit status 1", expected=False),),
        ),
        "backing_off",
        "Worker 3 failed 3 times in a row; the next is started in 4 s.",
        "it died: exit status 1",
    ),
    "unwanted": (replace(SLOT, alive=False, wanted=2), "unwanted", "there are to be 2 workers"),
    "rests": (
        replace(SLOT, alive=False, wanted=0, mode="resting"),
        "unwanted",
        "the arbiter is resting",
    ),
    "starting": (replace(SLOT, alive=False), "starting", "Worker 3 is being started."),
}


@pytest.mark.parametrize("case", WORKERS)
def test_a_worker(case):
    facts, state, *phrases = WORKERS[case]
    told = tell_worker(facts, NOW)
    text = "\n".join([told.headline, *told.lines, *told.remedies])
    assert told.state == state, text
    for phrase in phrases:
        assert phrase in text


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("we ird", "start an arbiter with --queue 'we ird'"),
        ("-rf", "start an arbiter with --queue -rf"),
        ("a*", "start an arbiter with --queue 'a*=all'"),
        ("a=5", "start an arbiter with --queue a=5=all"),
        ("a,b", "enqueue its jobs elsewhere, since no arbiter can serve it: queue 'a,b' has a"),
        ("ev\x1bil", "no arbiter can serve it: queue 'ev\\x1bil' has control characters"),
    ],
)
def test_what_has_to_be_typed_to_serve_a_queue(name, remedy):
    (said,) = tell_queue(replace(MAILS, name=name, workers=()), NOW).remedies
    assert remedy in said


def test_a_name_that_looks_like_an_option_is_resumed():
    paused = replace(MAILS, name="-r f", paused=True)
    assert tell_queue(paused, NOW).remedies == ("`resquedctl queue resume -- '-r f'`",)


def test_names_from_outside_do_not_move_the_cursor():
    facts = replace(FAILED, queue="\x1b[2J", at=None)
    told = tell_job(facts, NOW)
    assert "\x1b" not in "\n".join([told.headline, *told.lines, *told.remedies])


def test_words():
    assert [span(s) for s in (0.0031, 0.4, 1.42, 12, 130, 11100, 187200)] == [
        *("3 ms", "400 ms", "1.4 s", "12 s", "2 min 10 s", "3 h 5 min", "2 d 4 h"),
    ]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 113, 1002)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "113th", "1,002nd"),
    ]
    assert clock(NOW - 86400, NOW) == "2026-11-29 14:00"
    assert numbers([3, 1, 2, 7]) == "1-3, 7"
    assert counted(1, "job") == "1 job"
    assert listing(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert [rate(r) for r in (0.5, 12.3, 4070)] == ["0.5 a minute", "12 a minute", "4,070 a minute"]
