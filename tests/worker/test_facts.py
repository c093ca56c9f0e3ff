"""What hooks are shown of their worker, in each hook that runs in it or in a job's process."""

from __future__ import annotations

import json
import time

import pytest

from harness import jobs
from harness.waiting import wait_for
from resqued import hookimpl
from resqued.config import Config
from resqued.forkserver.worker_start import snapshot
from resqued.messages import ForkWorker

JOB = ("job_id", "function", "queue", "job_started", "timeout")
NO_JOB = dict.fromkeys(JOB)

SETTINGS = {
    "fast path": {},
    "RQ's way": {"fast_path": "off"},
    "fork": {"isolation": ("fork",)},
    "rq.Worker": {"worker_class": "rq.Worker"},
    "rq.SimpleWorker": {"worker_class": "rq.SimpleWorker"},
}


class Notes:
    """Writes down the facts of each call."""

    def __init__(self, path):
        self.path = path

    def note(self, hook, worker):
        names = (*JOB, "number", "name", "pid", "trial", "jobs", "failed", "memory", "state")
        facts = {name: getattr(worker, name) for name in names}
        with self.path.open("a") as file:
            file.write(json.dumps([hook, facts]) + "\n")

    def calls(self, *hooks):
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [facts for hook, facts in lines if hook in hooks]

    @hookimpl
    def after_fork(self, worker):
        self.note("after_fork", worker)

    @hookimpl
    def worker_ready(self, worker):
        self.note("worker_ready", worker)

    @hookimpl
    def before_job(self, worker):
        self.note("before_job", worker)

    @hookimpl(wrapper=True)
    def perform_job(self, worker):
        self.note("perform_job", worker)
        return (yield)

    @hookimpl
    def worker_exiting(self, worker):
        self.note("worker_exiting", worker)


class Between(Notes):
    """The hooks that keep a step from taking the next job."""

    @hookimpl
    def after_job(self, worker):
        self.note("after_job", worker)

    @hookimpl
    def order_queues(self, worker):
        self.note("order_queues", worker)

    @hookimpl
    def should_recycle(self, worker):
        self.note("should_recycle", worker)


@pytest.mark.parametrize("plugin", [Notes, Between])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_facts_of_the_job_are_those_of_the_job_in_hand(
    crew, queue, ends, tmp_path, settings, plugin
):
    """Also for spare children, which are forked before their job is known."""
    notes = plugin(tmp_path / "notes")
    began = time.monotonic()
    given = []
    for number in range(6):
        name, body = ("ab"[number % 2], (jobs.noop, jobs.fail, time.time)[number % 3])
        timeout = (100 + number) if number != 4 else -1
        given.append(queue(name).enqueue(body, job_timeout=timeout))
    hand = crew.start("a", "b", plugins=[notes], **settings)
    for job in given:
        ends(job)
    wait_for(lambda: hand.record.done == 6, 10, "all to be on the record")
    hand.signal(15)
    assert hand.gone() == 0

    by_id = {job.id: job for job in given}
    for hook in ("before_job", "perform_job", "after_job"):
        calls = notes.calls(hook)
        if hook == "after_job" and plugin is Notes:
            continue
        assert [call["jobs"] for call in calls] == list(range(6)), hook
        assert sorted(call["job_id"] for call in calls) == sorted(by_id), hook
        for call in calls:
            job = by_id[call["job_id"]]
            assert call["function"] == job.func_name, hook
            assert call["queue"] == job.origin, hook
            assert call["timeout"] == (job.timeout if job.timeout > 0 else None), hook
            assert began < call["job_started"] < time.monotonic(), hook
            assert call["state"] == "busy", hook
    starts = {call["job_id"]: call["job_started"] for call in notes.calls("before_job")}
    for call in notes.calls("perform_job"):
        assert call["job_started"] == starts[call["job_id"]]
    memories = [call["memory"] for call in notes.calls("perform_job")]
    assert memories[0] is None
    assert all(2**20 < memory < 2**34 for memory in memories[1:])
    failures = [call["failed"] for call in notes.calls("before_job", "worker_exiting")]
    assert failures[0] == 0
    assert failures[-1] == 2
    assert failures == sorted(failures)

    between = notes.calls(
        "after_fork", "worker_ready", "order_queues", "should_recycle", "worker_exiting"
    )
    assert len(between) >= (3 if plugin is Notes else 10)
    for call in between:
        assert {name: call[name] for name in JOB} == NO_JOB
    for call in notes.calls("after_fork", "before_job", "after_job", "worker_exiting"):
        assert (call["number"], call["trial"], call["pid"]) == (1, False, hand.pid)


def test_a_trial_worker_has_number_0():
    told = snapshot(ForkWorker(0, "w", 1, ["a"], trial=True), 2, Config())
    assert (told.number, told.trial, told.job_id, told.memory) == (0, True, None, None)
    told = snapshot(ForkWorker(3, "w", 1, ["a"]), 2, Config())
    assert (told.number, told.trial, told.pid) == (3, False, None)
