"""Whose failure it is: jobs that end their worker cost the others nothing; and a reload that cannot
be started, for want of anything, leaves an arbiter that works on and can be stopped."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from harness import jobs
from harness.waiting import stays_true, wait_for

APP = """
    import os

    def dies():
        os._exit(9)
"""


def is_finished(job) -> bool:
    return job.get_status(refresh=True) == "finished"


def test_jobs_that_end_their_worker_do_not_keep_a_good_one_waiting(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", app=APP)
    arbiter.wait_for_workers(1)
    bad = [queue().enqueue("app.dies") for _ in range(8)]
    good = queue().enqueue(jobs.noop)
    wait_for(lambda: is_finished(good), 60, "the good job")  # 92 s with a back-off
    wait_for(
        lambda: all(job.get_status(refresh=True) == "failed" for job in bad), 20, "the recoveries"
    )
    assert "next try in" not in arbiter.log()


def test_twenty_in_a_row_are_slowed_down_and_told(resqued, queue):
    arbiter = resqued("-n", 2, "-r", "app", app=APP, expect_errors="workers in a row have died")
    arbiter.wait_for_workers(2)
    for _ in range(24):
        queue().enqueue("app.dies")
    arbiter.wait_for(r"20 workers in a row have died with a job in hand", timeout=60)
    arbiter.wait_for(r"held job=\S+ in phase running; next try in 2 s", times=2, timeout=30)
    good = queue().enqueue(jobs.noop)
    wait_for(lambda: is_finished(good), 60, "the good job")
    arbiter.wait_for(r"a job has ended: workers that die of one are replaced at once again")


ALWAYS = """
    def should_recycle(worker):
        return "I always say so"
"""


@pytest.mark.parametrize("how", ["--max-age", "a plugin"])
def test_a_recycle_before_the_first_job_does_not_fork_on_and_on(resqued, how):
    limit = ["--max-age", "0.001"] if how == "--max-age" else []
    arbiter = resqued("-n", 1, *limit, config="" if limit else ALWAYS)
    arbiter.wait_for(r"recycled .* before its first job.*; next try in 2 s", timeout=30)
    before = arbiter.log().count(" ready, queues=")
    few = lambda: arbiter.log().count(" ready, queues=") - before <= 2  # noqa: E731
    stays_true(few, 3, "two workers at most")


def test_under_a_limit_that_each_worker_exceeds_each_does_a_job(resqued, queue):
    done = [queue().enqueue(jobs.noop) for _ in range(5)]
    arbiter = resqued("-n", 1, "--max-age", "0.001")
    wait_for(lambda: all(job.is_finished for job in done), 30, "all jobs to be done")
    assert len({entry.pid for entry in arbiter.ledger.entries()}) == 5


def no_descriptor(arbiter, link: Path) -> None:
    """Enough to read the configuration, and too few for a memfd and a pair of sockets."""
    highest = max(int(fd.name) for fd in Path(f"/proc/{arbiter.pid}/fd").iterdir())
    resource.prlimit(arbiter.pid, resource.RLIMIT_NOFILE, (highest + 3, highest + 3))


def no_interpreter(arbiter, link: Path) -> None:
    link.unlink()


def environment_of_links(directory: Path) -> Path:
    """A virtual environment that is ours, by links: its interpreter, which may be removed."""
    (directory / "bin").mkdir()
    (directory / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    for name in ("pyvenv.cfg", "lib"):
        (directory / name).symlink_to(Path(sys.prefix) / name)
    return directory / "bin" / "python"


@pytest.mark.parametrize("name", ["QUIT", "TERM"])
@pytest.mark.parametrize("take_away", [no_descriptor, no_interpreter])
def test_after_a_reload_that_cannot_be_started_it_works_on_and_can_be_stopped(
    resqued, queue, tmp_path, take_away, name
):
    link = environment_of_links(tmp_path)
    arbiter = resqued(
        "-n", 1, under=[str(link)], expect_errors="cannot be started|reload failed|reload: "
    )
    arbiter.wait_for_workers(1)
    take_away(arbiter, link)
    arbiter.signal("HUP")
    arbiter.wait_for(r"reload failed, gen=1 stays in service")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: is_finished(job), 15, "a job")
    assert arbiter.stop(name) == 0
