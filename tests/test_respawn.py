"""Workers that die, are stuck, or have done their share: replaced, and the job put right."""

from __future__ import annotations

import contextlib
import re
import textwrap

import psutil
import pytest
from rq import Retry

from harness import jobs, processes
from harness.command import run
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for


def pids(arbiter):
    return {number: process.pid for number, process in arbiter.workers().items()}


def successor(arbiter, number, pid, timeout=10):
    """The pid of the ready worker that is in a slot instead of `pid`."""
    found = wait_for(
        lambda: (new := pids(arbiter).get(number)) not in (None, pid) and new,
        timeout,
        f"a successor of worker {number}",
    )
    return found


def queues(arbiter):
    """What each worker serves, as --status shows it."""
    return {each["number"]: ",".join(each["queues"]) for each in arbiter.status()["workers"]}


# --- Deaths ----------------------------------------------------------------------------------


def test_a_killed_idle_worker_is_replaced_and_no_longer_registered(resqued, connection):
    arbiter = resqued("-n", 2)
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    registered = wait_for(lambda: len(found := connection.smembers("rq:workers")) == 2 and found)

    arbiter.signal("KILL", pid=before[1])
    successor(arbiter, 1, before[1])
    arbiter.wait_for_workers(2)
    assert pids(arbiter)[2] == before[2]
    after = wait_for(
        lambda: (
            len(found := connection.smembers("rq:workers")) == 2 and found != registered and found
        ),
        what="its name to be gone and its successor's to be there",
    )
    assert len(after & registered) == 1


def test_a_slot_whose_workers_cannot_boot_backs_off_alone(resqued, queue):
    arbiter = resqued(
        "-n",
        3,
        config="""
            import pathlib
            def after_fork(worker):
                if worker.number == 2 and pathlib.Path("broken").exists():
                    raise ValueError("slot 2 is not for us")
        """,
        expect_errors="slot 2|after_fork|worker=2|Traceback|ValueError",
    )
    before = {n: each.pid for n, each in arbiter.wait_for_workers(3).items()}
    broken = arbiter.directory / "broken"
    broken.touch()
    arbiter.signal("KILL", pid=before[2])
    arbiter.wait_for(r"worker=2 .* ended before it was ready: .*; next try in 2 s", timeout=15)
    assert "slot 2 is not for us" in arbiter.log()
    assert {n: pid for n, pid in pids(arbiter).items() if n != 2} == {1: before[1], 3: before[3]}
    waiting = [each for each in arbiter.status()["workers"] if each["number"] == 2]
    assert [each["pid"] for each in waiting] in ([], [None])

    process = psutil.Process(arbiter.pid)
    began = sum(process.cpu_times()[:2])
    arbiter.wait_for("next try in 4 s", timeout=15)
    assert sum(process.cpu_times()[:2]) - began < 0.5, "it does not spin"
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="the others to work on")

    broken.unlink()
    arbiter.wait_for_workers(3)
    assert {n: pid for n, pid in pids(arbiter).items() if n != 2} == {1: before[1], 3: before[3]}


def test_when_no_worker_ever_comes_up_it_gives_up(resqued):
    arbiter = resqued(
        "-n", 2, config="def after_fork(): raise ValueError('no')\n", expect_errors="."
    )
    assert arbiter.exit(20) == 70
    assert len(re.findall("ended before it was ready", arbiter.log())) == 6
    assert "every worker has died 3 times before it was ready" in arbiter.log()


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("app", "reason"),
    [("def f():\n    1 / 0\nf()\n", "ZeroDivisionError: division by zero"),
     ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
     ("raise SystemExit('enough')\n", "SystemExit: enough"),
     ("import os; os.abort()\n", "signal 6")],
    ids=["raises", "import", "exits", "aborts"],
)  # fmt: skip
def test_an_app_that_cannot_be_imported_at_the_start_is_the_end(
    tmp_path, valkey, no_process_left, app, reason, daemon
):
    (tmp_path / "app.py").write_text(app)
    flags = ["-D", "--pid", "pid", "--log-file", "log"] if daemon else []
    code, out, error = run("-r", "app", *flags, cwd=tmp_path, RQ_REDIS_URL=valkey.url)
    assert code == 78
    log = (tmp_path / "log").read_text() if daemon else error
    assert reason in log
    if "line 2, in f" in log or "1 / 0" in app:
        assert log.count("Traceback (most recent call last)") == 1
        assert 'app.py", line 2, in f' in log
    if daemon:
        assert out == ""
        assert error, "whoever started it is told"
        assert not (tmp_path / "pid").exists()


def test_a_killed_fork_server_is_replaced_and_its_job_in_hand_finishes(
    resqued, connection, queue, gate
):
    arbiter = resqued("-n", 2, "-r", "app", app="", expect_errors="fork server ended")
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    (server,) = arbiter.fork_servers()
    arbiter.signal("KILL", pid=server.pid)

    wait_for(
        lambda: [each.pid for each in arbiter.fork_servers() if each.pid != server.pid],
        what="another fork server",
    )
    idle = next(n for n, pid in before.items() if pid != int(there.wait_until_reached()))
    successor(arbiter, idle, before[idle])
    there.open()
    wait_for(lambda: job.is_finished, what="the job to be finished")
    wait_for(lambda: not set(before.values()) & set(pids(arbiter).values()), what="successors")
    arbiter.wait_for_workers(2)
    assert {each["generation"] for each in arbiter.status()["workers"]} == {1}
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:default"}
    assert arbiter.ledger.started() == [job.id]


def test_a_fork_server_killed_again_and_again_comes_back(resqued, queue):
    arbiter = resqued("-n", 1, expect_errors="fork server ended")
    arbiter.wait_for_workers(1)
    for times in range(1, 4):
        (server,) = wait_for(arbiter.fork_servers, what="a fork server")
        arbiter.signal("KILL", pid=server.pid)
        arbiter.wait_for("fork server ended", times=times)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")


def test_a_killed_arbiter_and_fork_server_leave_nobody_behind(resqued, connection, queue, gate):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    family = processes.descendants(arbiter.pid)
    for pid in (arbiter.pid, arbiter.fork_servers()[0].pid):
        arbiter.signal("KILL", pid=pid)
    arbiter.exit()
    there.open()
    wait_for(lambda: not any(processes.alive(each.pid) for each in family), what="all to leave")
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:default"}


def test_the_next_arbiter_puts_right_what_a_total_loss_has_left(resqued, connection, queue, gate):
    """SIGKILL of everything at once, as the kernel does when memory is out."""
    first = resqued("-n", 2)
    first.wait_for_workers(2)
    there = gate()
    ids = [queue().enqueue(jobs.wait_at, str(there)).id]
    there.wait_until_reached()
    for process in [psutil.Process(first.pid), *processes.descendants(first.pid)]:
        with contextlib.suppress(ProcessLookupError):  # it has gone with its parent
            first.signal("KILL", pid=process.pid)
    first.exit()
    there.open()
    ids.append(queue().enqueue(jobs.noop).id)

    second = resqued("-n", 2)
    second.wait_for_workers(2)
    wait_for(lambda: second.ledger.ended(ids[1]), what="the new job to be done")
    where = wait_for(
        lambda: len(found := connection.zrange("rq:finished:default", 0, -1)) == 1 and found
    )
    assert where == [ids[1].encode()]


# --- A job past its deadline -----------------------------------------------------------------


def test_a_job_stuck_in_c_is_shown_killed_and_failed_with_the_reason(
    resqued, connection, queue, gate
):
    arbiter = resqued("-n", 2, "--kill-after", 0.5, expect_errors="stuck|killed|ended|failed")
    arbiter.wait_for_workers(2)
    there = gate()
    job = queue().enqueue(jobs.stuck_in_c, str(there), job_timeout=1)
    pid = there.wait_until_reached()
    number = next(n for n, each in pids(arbiter).items() if each == pid)
    other = {n: each for n, each in pids(arbiter).items() if n != number}

    wait_for(lambda: job.is_failed, 15, "the job to be failed")
    arbiter.wait_for(rf"worker={number} .*stuck in job={job.id} harness\.jobs\.stuck_in_c")
    arbiter.wait_for(r"stacks:\n(.*\n)*?.*jobs\.py.* in stuck_in_c")
    arbiter.wait_for(rf"worker={number} .*killed: stuck in job={job.id}")
    assert "stuck in job=" in job.latest_result().exc_string
    assert not processes.alive(pid)
    successor(arbiter, number, pid)
    assert other.items() <= pids(arbiter).items()
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_the_children_of_a_stuck_job_are_killed_with_it(resqued, queue, gate):
    arbiter = resqued(
        "-n", 1, "--kill-after", 0.3, "-r", "app", expect_errors="stuck|killed|ended|failed",
        app="""
            import subprocess
            from harness import jobs
            def run(gate):
                subprocess.Popen(["sleep", "1000"])
                jobs.stuck_in_c(gate)
        """,
    )  # fmt: skip
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue("app.run", str(there), job_timeout=1)
    pid = there.wait_until_reached()
    (child,) = psutil.Process(pid).children()
    wait_for(lambda: job.is_failed, 15, "the job to be failed")
    wait_for(lambda: not processes.alive(child.pid), what="its child to be gone")
    wait_for(lambda: not child.is_running(), 15, "the arbiter to collect what was left to it")


# --- A job that kills its worker --------------------------------------------------------------


@pytest.mark.parametrize("poison", [jobs.vanish, jobs.segfault, jobs.kill_self])
def test_a_job_that_kills_every_worker_fails_at_the_third_death(resqued, connection, queue, poison):
    arbiter = resqued("-n", 2, expect_errors="ended|failed|Fatal|signal")
    arbiter.wait_for_workers(2)
    job = queue().enqueue(poison, retry=Retry(10))
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status(refresh=True) == "failed", 30, "the job to be failed for good")
    assert len(arbiter.ledger.started(job.id)) == 3
    assert "killed its worker 3 times" in job.latest_result().exc_string
    wait_for(lambda: after.is_finished, what="the other job to be done")
    arbiter.wait_for_workers(2)
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    if poison is jobs.segfault:
        arbiter.wait_for(r"in segfault")


def test_a_job_without_retries_fails_at_its_first_death(resqued, connection, queue):
    arbiter = resqued("-n", 1, expect_errors="ended|failed|signal")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.kill_self)
    wait_for(lambda: job.is_failed, what="the job to be failed")
    assert "signal 9" in job.latest_result().exc_string
    assert arbiter.ledger.started() == [job.id]
    arbiter.wait_for_workers(1)


def test_on_worker_death_requeue_puts_the_job_back_until_the_third(resqued, connection, queue):
    arbiter = resqued(
        "-n", 1, "--on-worker-death", "requeue", "-r", "app", expect_errors="ended|failed|signal",
        app="""
            import pathlib
            from harness import jobs
            def twice(path):
                with open(path, "a") as file:
                    file.write("x")
                if len(pathlib.Path(path).read_text()) <= 2:
                    jobs.kill_self()
                return jobs.noop()
        """,
    )  # fmt: skip
    arbiter.wait_for_workers(1)
    good = queue().enqueue("app.twice", str(arbiter.directory / "times"))
    wait_for(lambda: good.is_finished, 20, "it to come through at the third try")
    bad = queue().enqueue(jobs.kill_self)
    wait_for(lambda: bad.is_failed, 30, "it to be failed at its third death")
    assert len(arbiter.ledger.started(bad.id)) == 3
    where = assert_one_place_each(connection, [good.id, bad.id])
    assert where == {good.id: "finished:default", bad.id: "failed:default"}


# --- Recycling -------------------------------------------------------------------------------


def test_max_jobs_replaces_a_worker_between_two_jobs(resqued, queue):
    arbiter = resqued("-n", 1, "--max-jobs", 5)
    first = arbiter.wait_for_workers(1)[1].pid
    ids = [queue().enqueue(jobs.noop).id for _ in range(12)]
    wait_for(lambda: len(arbiter.ledger.ended()) == 12, what="all jobs to be done")
    assert arbiter.ledger.ended() == ids, "in their order"
    done = [entry.pid for entry in arbiter.ledger.entries() if entry.word == "end"]
    assert done.count(first) == 5
    assert len(set(done)) == 3
    arbiter.wait_for(r"recycling reason='5 jobs done'", times=2)


def test_max_age_replaces_a_worker_between_two_jobs(resqued, queue):
    ids = [queue().enqueue(jobs.sleep, 0.3).id for _ in range(8)]  # there before the first worker
    arbiter = resqued("-n", 1, "--max-age", 2)
    wait_for(lambda: len(arbiter.ledger.ended()) == 8, 60, "all jobs to be done")
    assert arbiter.ledger.started() == arbiter.ledger.ended() == ids
    assert len(arbiter.ledger.pids()) >= 2
    # not after each job; how many a worker has time for depends on the machine
    arbiter.wait_for(r"recycling reason='([2-9]|\d\d+) s old'")


def test_max_memory_replaces_a_worker_that_has_grown(resqued, queue):
    arbiter = resqued("-n", 1, "--max-memory", "60M")
    first = arbiter.wait_for_workers(1)[1].pid
    small, big = queue().enqueue(jobs.hog, 5), queue().enqueue(jobs.hog, 80)
    wait_for(lambda: big.is_finished, what="the job to be done")
    successor(arbiter, 1, first)
    arbiter.wait_for(r"recycling reason='grown by \d+ MiB'")
    assert {entry.pid for entry in arbiter.ledger.entries()} == {first}
    assert small.is_finished


def pids_ready(arbiter, count):
    return [each.pid for each in arbiter.wait_for_workers(count).values()]


# --- The shares ------------------------------------------------------------------------------


def test_shares_are_right_through_growth_shrinking_and_reload(resqued):
    arbiter = resqued(
        config="""
            workers = 10
            queues = {"critical": "all", "high": 4, "low": "10%", "half": 0.5}
        """
    )
    arbiter.wait_for_workers(10)

    def table(low, high, half, count):
        return {
            n: ",".join(
                ["critical"] + ["high"] * (n <= high) + ["low"] * (n <= low)
                + ["half"] * (n <= half)
            )
            for n in range(1, count + 1)
        }  # fmt: skip

    def becomes(expected):
        wait_for(lambda: queues(arbiter) == expected, 15, f"{expected}")
        arbiter.wait_for_workers(len(expected))

    becomes(table(1, 4, 5, 10))
    arbiter.signal("TTOU")
    becomes(table(1, 4, 4, 9))  # 10 % of nine: one, at least
    arbiter.signal("TTIN")
    becomes(table(1, 4, 5, 10))
    write(
        arbiter,
        "resqued.conf.py",
        "workers = 20\nqueues = {'critical': 'all', 'high': 2, 'low': '10%', 'half': 0.5}\n",
    )
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=20)
    becomes(table(2, 2, 10, 20))


def test_growth_past_the_largest_share_is_refused(resqued):
    arbiter = resqued("-n", 2, "--queue", "high=3", "--queue", "low=1")
    before = set(pids_ready(arbiter, 2))
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    arbiter.signal("TTIN")
    arbiter.wait_for("the count stays at 3: .*worker 4 of 4 would have no queue.*share")
    stays_true(lambda: len(arbiter.workers()) == 3, 0.3, "three they are")
    assert before < set(pids(arbiter).values())
    arbiter.signal("TTOU")
    arbiter.wait_for_workers(2)


def write(arbiter, name, text):
    (arbiter.directory / name).write_text(textwrap.dedent(text))


@pytest.mark.parametrize("boot", [0, 1.5], ids=["quick", "slow to boot"])
def test_workers_that_are_recycled_before_their_first_job_back_off(resqued, queue, boot):
    arbiter = resqued(
        "-n",
        1,
        config=f"""
            import pathlib, time

            def after_fork(worker):
                time.sleep({boot})

            def should_recycle(worker):
                return None if pathlib.Path("mended").exists() else "too old"
        """,
        expect_errors="recycled .* before its first job",
    )
    arbiter.wait_for(r"recycled .* before its first job: .*; next try in 1 s", timeout=20)
    arbiter.wait_for(r"recycled .* before its first job: .*; next try in 2 s", timeout=20)
    (arbiter.directory / "mended").touch()
    job = queue().enqueue(jobs.nothing)
    wait_for(lambda: job.get_status() == "finished", 20, "the service to be back")
