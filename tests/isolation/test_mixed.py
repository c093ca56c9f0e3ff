"""One worker, a queue of each kind; and the settings that say which is which."""

from __future__ import annotations

import pytest

from harness.command import run
from isolation import tasks


def test_each_queue_has_its_own_isolation(resqued, queue, ends):
    arbiter = resqued(
        "-n", 1, "--queue", "mail", "--queue", "reports", "--isolation", "reports=fork"
    )
    arbiter.wait_for("jobs run in the worker; those of reports: fork")
    worker = arbiter.wait_for_workers(1)[1].pid
    pids = {}
    for name in ("mail", "reports") * 2:
        job = queue(name).enqueue(tasks.pid)
        assert ends(job) == "finished"
        pids.setdefault(name, []).append(job.return_value(refresh=True))
    assert pids["mail"] == [worker, worker]
    assert worker not in pids["reports"]


def test_a_worker_with_threads_that_jobs_have_left_is_replaced_before_it_forks(
    resqued, queue, ends
):
    config = """
        queues = ["mail", "reports"]
        isolation = {"reports": "fork", "*": "worker"}
    """
    arbiter = resqued("-n", 1, config=config)
    arbiter.wait_for_workers(1)
    first = queue("mail").enqueue(tasks.threads, 1000)
    assert ends(first) == "finished"
    second = queue("reports").enqueue(tasks.pid)
    assert ends(second) == "finished"
    arbiter.wait_for("replaced before it forks: jobs have left 1 threads")
    worker = arbiter.wait_for_workers(1)[1].pid
    assert worker != first.return_value(refresh=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--isolation", "spawn"), "'spawn' is neither worker nor fork"),
        (("--isolation", "high=fork"), "queue 'high' is not served here"),
        (("--isolation", "fork", "-w", "rq.Worker"), "worker class 'rq.Worker'"),
        (("--isolation", "fork", "-w", "worker.classes.Mine"), "'worker.classes.Mine'"),
        (("--isolation", "fork", "--max-result", "much"), "'much' is not a size"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, arguments, told):
    code, _, err = run("--check", *arguments, cwd=tmp_path)
    assert code in (64, 78)
    assert told in err


def test_check_names_the_isolation(tmp_path):
    code, out, _ = run("--check", "--isolation", "fork", cwd=tmp_path)
    assert code == 0
    assert "isolation: a child is forked for each job" in out
