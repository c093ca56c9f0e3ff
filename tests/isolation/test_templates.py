"""While jobs follow one another a template forks their children."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from harness import jobs, processes
from harness.waiting import wait_for
from isolation import tasks


def parents(queue, ends, count):
    many = [queue().enqueue(tasks.parent) for _ in range(count)]
    assert [ends(job) for job in many] == ["finished"] * count
    return {job.return_value(refresh=True) for job in many}


def test_it_comes_with_the_jobs_and_goes_without(isolated, queue, ends):
    arbiter = isolated()
    worker = arbiter.wait_for_workers(1)[1]
    found = parents(queue, ends, 20)
    assert worker.pid in found  # of the first, whom nobody was waiting for
    assert len(found) == 2
    (template,) = found - {worker.pid}
    wait_for(lambda: not processes.alive(template), 10, "the template to go")
    wait_for(lambda: not worker.children(), 10, "its children to be gone")
    assert template not in parents(queue, ends, 20)


def test_one_that_is_killed_takes_its_job_and_no_other(isolated, queue, ends, gate, ahead):
    arbiter = isolated(expect_errors="job=|template")
    worker = arbiter.wait_for_workers(1)[1]
    door = gate()
    ahead()
    job = queue().enqueue(jobs.sleep, 1000, str(door))
    child = door.wait_until_reached()
    (template,) = {each.ppid() for each in worker.children(recursive=True) if each.pid == child}
    assert template != worker.pid
    os.kill(template, signal.SIGKILL)
    assert ends(job) == "failed"
    assert "killed by SIGKILL" in job.latest_result().exc_string
    assert template not in parents(queue, ends, 20)
    assert arbiter.wait_for_workers(1)[1].pid == worker.pid


def test_its_children_have_nothing_of_each_other(isolated, queue, ends):
    isolated()
    many = [queue().enqueue(tasks.descriptors) for _ in range(20)]
    for job in many:
        assert ends(job) == "finished"
        found, _ = job.return_value(refresh=True)
        assert found == ["pipe:[", "pipe:["], job.id
    assert len({job.return_value()[1] for job in many}) > 1


def test_large_arguments_go_to_its_children_too(isolated, queue, ends):
    arbiter = isolated()
    worker = arbiter.wait_for_workers(1)[1]
    many = [queue().enqueue(tasks.parent, bytes(200_000 * (n % 2))) for n in range(30)]
    assert [ends(job) for job in many] == ["finished"] * 30
    assert {job.return_value(refresh=True) for job in many[1::2]} - {worker.pid}


def test_there_is_none_where_jobs_run_in_the_worker_too(resqued, queue, ends):
    arbiter = resqued("-n", 1, "--queue", "mail", "--queue", "reports", "--isolation", "mail=fork")
    worker = arbiter.wait_for_workers(1)[1]
    many = [queue("mail").enqueue(tasks.parent) for _ in range(10)]
    assert [ends(job) for job in many] == ["finished"] * 10
    assert {job.return_value(refresh=True) for job in many} == {worker.pid}


def test_log_files_are_opened_anew_for_its_children_too(isolated, queue, ends, ahead):
    arbiter = isolated("--stdout-path", "out")
    worker = arbiter.wait_for_workers(1)[1]
    place = arbiter.directory / "out"

    def say(text):
        ahead()
        assert ends(queue().enqueue(tasks.say, text)) == "finished"
        (line,) = [line for line in place.read_text().splitlines() if line.startswith(text)]
        assert int(line.split()[-1]) != worker.pid

    say("one")
    place.rename(arbiter.directory / "old")
    arbiter.signal("USR1")
    wait_for(place.exists, 10, "the new file")
    stdout = Path(f"/proc/{worker.pid}/fd/1")
    wait_for(lambda: stdout.samefile(place), 10, "the worker to have it")
    say("two")
    say("three")
