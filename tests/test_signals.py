"""The signal tables: one test a row, in the foreground and as a daemon."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for
from resqued.signal_table import COMMAND, DUMP


@pytest.fixture(params=["foreground", "daemon"])
def mode(request):
    """Arguments for either way to run."""
    return ["-D"] if request.param == "daemon" else []


@pytest.fixture
def busy(queue, gate):
    """`busy("low")`: put a job into a queue that waits at a gate; both of them."""

    def put(name="default"):
        there = gate()
        return queue(name).enqueue(jobs.wait_at, str(there)), there

    return put


def pids(arbiter):
    return {number: process.pid for number, process in arbiter.workers().items()}


def list_of(connection, name="default"):
    return [job_id.decode() for job_id in connection.lrange(f"rq:queue:{name}", 0, -1)]


SLOW_APP = """
    import pathlib, time
    pathlib.Path("importing").touch()
    while not pathlib.Path("import-may-end").exists():
        time.sleep(0.01)
"""


# --- To the arbiter: leaving -----------------------------------------------------------------


def test_quit_lets_every_worker_finish_its_job(resqued, connection, queue, busy, mode):
    arbiter = resqued("-n", 2, *mode)
    arbiter.wait_for_workers(2)
    (first, gate1), (second, gate2) = busy(), busy()
    gate1.wait_until_reached()
    gate2.wait_until_reached()
    third = queue().enqueue(jobs.noop)

    arbiter.signal("QUIT")
    gate1.open()
    wait_for(lambda: first.is_finished, what="the first job to be finished")
    stays_true(lambda: arbiter.running, 0.5, "the arbiter waits for the second job")
    gate2.open()

    assert arbiter.exit() == 0
    assert assert_one_place_each(connection, [first.id, second.id, third.id]) == {
        first.id: "finished:default",
        second.id: "finished:default",
        third.id: "queue:default",
    }


def test_quit_with_idle_workers_is_over_at_once(resqued, mode):
    arbiter = resqued("-n", 3, *mode)
    arbiter.wait_for_workers(3)
    assert arbiter.stop("QUIT") == 0


@pytest.mark.parametrize("again", range(4))
def test_workers_that_have_only_just_come_up_leave_at_once(resqued, again):
    """Whatever they are at in that moment; several times, for it is never the same."""
    arbiter = resqued("-n", 8)
    arbiter.wait_for_workers(8)
    assert arbiter.stop("TERM") == 0
    assert "killed" not in arbiter.log()


def test_grace_bounds_a_drain_and_then_the_job_is_put_back(resqued, connection, busy):
    arbiter = resqued("--grace", 0.5)
    arbiter.wait_for_workers(1)
    job, gate = busy()
    gate.wait_until_reached()

    assert arbiter.stop("QUIT") == 0
    assert list_of(connection) == [job.id]
    assert_one_place_each(connection, [job.id])


@pytest.mark.parametrize("signame", ["TERM", "INT"])
def test_term_and_int_put_the_job_back_at_the_front(
    resqued, connection, queue, busy, mode, signame
):
    arbiter = resqued("-n", 1, "--queue", "low", *mode)
    arbiter.wait_for_workers(1)
    job, gate = busy("low")
    gate.wait_until_reached()
    behind = queue("low").enqueue(jobs.noop)

    assert arbiter.stop(signame, timeout=6) == 0
    assert list_of(connection, "low") == [job.id, behind.id]
    assert job.get_status(refresh=True) == "queued"
    assert_one_place_each(connection, [job.id, behind.id])
    assert arbiter.ledger.ended(job.id) == []


def test_on_term_drain_makes_term_a_quit(resqued, busy):
    arbiter = resqued("--on-term", "drain")
    arbiter.wait_for_workers(1)
    job, gate = busy()
    gate.wait_until_reached()
    arbiter.signal("TERM")
    stays_true(lambda: arbiter.running, 0.5, "the job in hand is finished first")
    gate.open()
    assert arbiter.exit() == 0
    assert job.is_finished


@pytest.mark.parametrize("signame", ["TERM", "INT"])
def test_term_during_a_drain_means_now(resqued, connection, busy, signame):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    job, gate = busy()
    gate.wait_until_reached()
    arbiter.signal("QUIT")
    stays_true(lambda: arbiter.running, 0.3, "it drains")

    assert arbiter.stop(signame, timeout=6) == 0
    assert list_of(connection) == [job.id]


@pytest.mark.parametrize("signame", ["TERM", "INT", "QUIT"])
def test_five_times_in_a_row_is_as_once(resqued, connection, queue, signame):
    arbiter = resqued("-n", 4)
    arbiter.wait_for_workers(4)
    ids = [queue().enqueue(jobs.sleep, 0.02).id for _ in range(100)]
    wait_for(arbiter.ledger.ended, what="the first job to end")

    arbiter.signal(*[signame] * 5)
    assert arbiter.exit() == 0
    where = assert_one_place_each(connection, ids)
    assert set(where.values()) <= {"finished:default", "queue:default"}
    # what the ledger says came through may have been cut before its outcome, never the opposite
    finished = {job_id for job_id, place in where.items() if place == "finished:default"}
    assert finished <= set(arbiter.ledger.ended())


@pytest.mark.parametrize("signame", ["TERM", "INT", "QUIT"])
def test_leaving_while_the_application_loads(resqued, mode, signame):
    if mode:  # the launcher waits for the first workers, so its arbiter is found by the pid file
        arbiter = resqued("-D", "-r", "app", app="")
        arbiter.wait_for_workers(1)
        (arbiter.directory / "app.py").write_text("import time\ntime.sleep(60)\n")
        arbiter.signal("HUP")
        wait_for(lambda: len(arbiter.fork_servers()) == 2, what="a second fork server")
    else:
        arbiter = resqued("-r", "app", app=SLOW_APP)
        wait_for((arbiter.directory / "importing").exists, what="the import to begin")
    assert arbiter.stop(signame) == 0


# --- To the arbiter: reload ------------------------------------------------------------------


def test_hup_brings_new_code_and_config_while_old_jobs_finish(
    resqued, connection, queue, busy, mode
):
    arbiter = resqued("-r", "app", *mode, config="workers = 2", app="def answer():\n    return 1\n")
    before = arbiter.wait_for_workers(2)
    job, gate = busy()
    pid = gate.wait_until_reached()
    assert queue().enqueue("app.answer").id
    (arbiter.directory / "app.py").write_text("def answer():\n    return 22\n")
    (arbiter.directory / "resqued.conf.py").write_text("workers = 3\n")

    arbiter.signal("HUP")
    wait_for(
        lambda: len(arbiter.workers()) == 3 and len(arbiter.fork_servers()) == 2,
        what="two workers of the new generation beside the busy one",
    )
    answer = queue().enqueue("app.answer")
    wait_for(lambda: answer.return_value(refresh=True) == 22, what="the new code's answer")
    assert processes.alive(pid), "the old worker is still busy"

    gate.open()
    wait_for(lambda: len(arbiter.fork_servers()) == 1, what="the old generation to leave")
    after = arbiter.wait_for_workers(3)
    assert job.is_finished
    assert not {each.pid for each in before.values()} & {each.pid for each in after.values()}


def test_hup_with_a_broken_config_changes_nothing(resqued, mode):
    arbiter = resqued(*mode, config="workers = 2", expect_errors="resqued.conf.py|reload|Syntax")
    before = {number: each.pid for number, each in arbiter.wait_for_workers(2).items()}
    (arbiter.directory / "resqued.conf.py").write_text("workers = = 3\n")

    mark = arbiter.mark()
    arbiter.signal("HUP")
    arbiter.wait_for("resqued.conf.py", after=mark)
    stays_true(lambda: pids(arbiter) == before, 0.5, "the workers stay")


def test_a_second_hup_while_one_boots_replaces_it(resqued, queue):
    arbiter = resqued("-r", "app", app="ANSWER = 1\n")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "app.py").write_text(
        "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\n"
    )
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the second generation to boot")
    (arbiter.directory / "app.py").write_text("def answer():\n    return 3\n")
    arbiter.signal("HUP")

    wait_for(
        lambda: (
            ["generation 3" in processes.title(each) for each in arbiter.fork_servers()] == [True]
        ),
        15,
        "the third generation alone",
    )
    arbiter.wait_for_workers(1)
    job = queue().enqueue("app.answer")
    wait_for(lambda: job.return_value(refresh=True) == 3, what="the third's answer")


# --- To the arbiter: logs, re-exec -----------------------------------------------------------


def test_usr1_has_every_process_reopen_the_log(resqued, tmp_path, mode):
    log = tmp_path / "rotated.log"
    arbiter = resqued("-n", 2, *mode, *([] if mode else ["--log-file", log]))
    arbiter.wait_for_workers(2)
    log = arbiter.log_file if mode else log
    log.rename(log.with_suffix(".1"))

    arbiter.signal("USR1")

    def all_have_the_new_one():
        pids = [arbiter.pid, *(each.pid for each in processes.descendants(arbiter.pid))]
        return len(pids) == 5 and all(
            str(log) in processes.open_files(pid)
            and str(log.with_suffix(".1")) not in processes.open_files(pid)
            for pid in pids
        )

    wait_for(all_have_the_new_one, what="arbiter, fork server, steward and two workers to reopen")


def test_usr2_replaces_the_arbiter_and_reloads_under_the_same_pid(resqued, busy, mode):
    arbiter = resqued("-n", 2, *mode)
    arbiter.wait_for_workers(2)
    job, gate = busy()
    worker = gate.wait_until_reached()
    started = arbiter.pid, worker

    arbiter.signal("USR2")
    wait_for(lambda: len(arbiter.fork_servers()) == 2, 20, "the reload after the exec")
    assert processes.alive(worker), "the busy worker was left alone"
    gate.open()
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 20, "the old generation to leave")
    arbiter.wait_for_workers(2)
    assert (arbiter.pid, worker) == started
    assert job.is_finished


# --- To the arbiter: the number of workers ---------------------------------------------------


@pytest.mark.parametrize(("signame", "count"), [("HUP", 2), ("TTIN", 1)])
def test_winch_stops_the_workers_until_hup_or_ttin(resqued, busy, mode, signame, count):
    arbiter = resqued("-n", 2, *mode)
    arbiter.wait_for_workers(2)
    job, gate = busy()
    gate.wait_until_reached()

    arbiter.signal("WINCH")
    wait_for(lambda: len(arbiter.workers()) == 1, what="the idle worker to leave")
    gate.open()
    arbiter.wait_for_workers(0)
    assert job.is_finished
    assert arbiter.running
    assert not mode or arbiter.pid_file.exists()

    arbiter.signal(signame)
    arbiter.wait_for_workers(count)


def test_ttin_and_ttou_change_the_number_by_one(resqued, mode):
    arbiter = resqued("-n", 2, *mode)
    arbiter.wait_for_workers(2)
    before = pids(arbiter)

    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    assert {1: before[1], 2: before[2]}.items() <= pids(arbiter).items(), "the others stay"
    arbiter.signal("TTOU")
    arbiter.wait_for_workers(2)
    arbiter.signal("TTOU")
    arbiter.wait_for_workers(1)
    assert pids(arbiter) == {1: before[1]}


def test_ttou_stops_at_none_and_ttin_brings_one_back(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    for _ in range(3):
        arbiter.signal("TTOU")
        arbiter.wait_for_workers(0)
    assert arbiter.running
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(1)


def test_the_difference_survives_a_reload_and_a_re_exec(resqued):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    for signame in ("HUP", "USR2"):
        before = set(pids(arbiter).values())
        arbiter.signal(signame)
        wait_for(
            lambda before=before: not before & set(pids(arbiter).values()),
            20,
            f"other workers after {signame}",
        )
        arbiter.wait_for_workers(3)
        wait_for(lambda: len(arbiter.fork_servers()) == 1, 20, "the old fork server to leave")
    assert "(+1)" in str(arbiter.status())


def test_only_workers_whose_queues_change_are_replaced(resqued):
    arbiter = resqued("-n", 4, "--queue", "high", "--queue", "low=50%")
    arbiter.wait_for_workers(4)  # low: workers 1 and 2
    before = pids(arbiter)

    arbiter.signal("TTIN")  # of five, still two
    arbiter.wait_for_workers(5)
    assert before.items() <= pids(arbiter).items()
    arbiter.signal("TTIN")  # of six, three
    arbiter.wait_for_workers(6)
    wait_for(lambda: pids(arbiter).get(3) != before[3], what="worker 3 to be replaced")
    arbiter.wait_for_workers(6)
    after = pids(arbiter)
    assert {n for n in before if after[n] != before[n]} == {3}
    assert "high,low" in processes.title(arbiter.workers()[3])


# --- To the arbiter: at the wrong time, and many ---------------------------------------------


def test_signals_during_the_boot_are_kept_and_applied(resqued):
    arbiter = resqued("-n", 2, "-r", "app", app=SLOW_APP)
    wait_for((arbiter.directory / "importing").exists, what="the import to begin")
    arbiter.signal("USR1", "TTIN", "HUP", "USR2")
    stays_true(lambda: arbiter.running, 0.3, "none of them ends it")
    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for("re-exec done", timeout=20)
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 20, "the last reload to be over")
    arbiter.wait_for_workers(3)


def test_winch_during_the_boot_stops_it_short_of_workers(resqued):
    arbiter = resqued("-n", 2, "-r", "app", app=SLOW_APP)
    wait_for((arbiter.directory / "importing").exists, what="the import to begin")
    arbiter.signal("WINCH")
    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for("gen=1 ready")
    stays_true(lambda: not arbiter.workers(), 0.5, "no worker is started")
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(1)


def test_a_storm_of_signals_is_weathered(resqued, connection, queue):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    ids = [queue().enqueue(jobs.sleep, 0.01).id for _ in range(50)]
    for _ in range(300):
        arbiter.signal("TTIN", "TTOU", "USR1", "HUP", "CHLD")
    arbiter.signal("HUP")
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 30, "one generation")
    wait_for(lambda: len(arbiter.ledger.ended()) >= 50, 30, "all jobs to be done")
    assert arbiter.stop("QUIT") == 0
    assert set(assert_one_place_each(connection, ids).values()) == {"finished:default"}


# --- To a worker -----------------------------------------------------------------------------


@pytest.mark.parametrize("signame", ["QUIT", "TERM", "INT"])
@pytest.mark.parametrize("times", [1, 5])
def test_a_worker_told_to_leave_finishes_its_job(resqued, busy, signame, times):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    job, gate = busy()
    pid = gate.wait_until_reached()

    arbiter.signal(*[signame] * times, pid=pid)
    stays_true(lambda: processes.alive(pid), 0.3, "it finishes its job")
    gate.open()
    wait_for(lambda: not processes.alive(pid), what="it to leave")
    assert job.is_finished
    assert arbiter.wait_for_workers(1)[1].pid != pid, "and its slot is filled again"


@pytest.mark.parametrize("signame", ["QUIT", "TERM", "INT"])
def test_an_idle_worker_told_to_leave_does_so_at_once(resqued, signame):
    arbiter = resqued("-n", 1)
    worker = arbiter.wait_for_workers(1)[1]
    arbiter.signal(signame, pid=worker.pid)
    wait_for(lambda: not processes.alive(worker.pid), what="it to leave")
    arbiter.wait_for_workers(1)


@pytest.mark.parametrize("signame", ["HUP", "USR2", "TTIN", "TTOU", "WINCH"])
def test_a_worker_ignores_what_is_meant_for_the_arbiter(resqued, busy, signame):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    job, gate = busy()
    gate.wait_until_reached()
    before = pids(arbiter)
    for pid in before.values():
        arbiter.signal(signame, pid=pid)
    gate.open()
    wait_for(lambda: job.is_finished, what="the job to be finished")
    stays_true(lambda: pids(arbiter) == before, 0.3, "both workers go on")


def test_handlers_that_a_job_has_changed_are_set_again(resqued, queue):
    arbiter = resqued("-n", 1)
    worker = arbiter.wait_for_workers(1)[1]
    job = queue().enqueue(jobs.change_handlers)
    wait_for(lambda: job.is_finished, what="the job to be finished")
    arbiter.signal("TERM", pid=worker.pid)
    wait_for(lambda: not processes.alive(worker.pid), what="the worker to leave")


AT_ONCE = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "CHLD", "IO")


def test_many_signals_that_come_at_once_end_no_worker(resqued, queue):
    """They wait for a process that is stopped, and all are met before any is over."""
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    worker = arbiter.workers()[1]
    worker.suspend()
    wait_for(lambda: worker.status() == psutil.STATUS_STOPPED, what="the worker to be stopped")
    for number in (*(signal.Signals[f"SIG{name}"] for name in AT_ONCE), DUMP, COMMAND):
        os.kill(worker.pid, number)
    worker.resume()
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
    assert job.return_value() == worker.pid
    assert arbiter.stop("QUIT") == 0


@pytest.mark.parametrize("signame", ["QUIT", "TERM", "HUP"])
def test_signalling_every_process_at_once_loses_nothing(resqued, connection, queue, signame):
    """As a container's runtime does, or systemd with KillMode=control-group."""
    arbiter = resqued("-n", 3)
    arbiter.wait_for_workers(3)
    ids = [queue().enqueue(jobs.sleep, 0.02).id for _ in range(60)]
    wait_for(arbiter.ledger.ended, what="the first job to end")
    for process in [*processes.descendants(arbiter.pid), None]:
        arbiter.signal(signame, pid=process.pid if process else None)
    if signame == "HUP":
        wait_for(lambda: len(arbiter.ledger.ended()) == 60, 20, "all jobs to be done")
        assert arbiter.stop("QUIT") == 0
    assert arbiter.exit() == 0
    where = set(assert_one_place_each(connection, ids).values())
    assert where <= {"finished:default", "queue:default"}
