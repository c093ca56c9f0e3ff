"""Re-exec in place: what stays, what a failed check costs, and what comes in the gap."""

from __future__ import annotations

import fcntl
import re
import textwrap
import time

import psutil
import pytest

from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import WaitedTooLong, is_late, stays_true, wait_for


def pids(arbiter):
    return {number: process.pid for number, process in arbiter.workers().items()}


def held(pid):
    """What each descriptor is, without the numbers that differ from one to the next."""
    return [re.sub(r"\d+", "N", target) for target in processes.open_files(pid)]


def settle(arbiter):
    """Until one generation is left."""
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 30, "the old generation to leave")


def reexec(arbiter):
    mark = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec done", timeout=30, after=mark)
    arbiter.wait_for(r"gen=\d+ in service", timeout=30, after=mark)


def test_twenty_re_execs_under_load(resqued, connection, queue, gate):
    arbiter = resqued("-D", "-n", 3, "--kill-after", 0.5, expect_errors="stuck|killed|ended|failed")
    arbiter.wait_for_workers(3)
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(4)
    before = held(arbiter.pid)
    identity = arbiter.pid, arbiter.pid_file.stat().st_ino, arbiter.status()["started"]
    there = gate()
    ids = [queue().enqueue(jobs.wait_at, str(there), job_timeout=3600).id]
    first = there.wait_until_reached()

    for round_ in range(20):
        ids += [queue().enqueue(jobs.sleep, 0.02).id for _ in range(20)]
        mark = arbiter.mark()
        arbiter.signal("USR2")
        arbiter.wait_for("re-exec done", timeout=30, after=mark)
        assert processes.alive(first), f"round {round_}"
        arbiter.wait_for(r"gen=\d+ in service", timeout=30, after=mark)
        until_reload = arbiter.log()[mark:].partition(" in service;")[0]
        ended = rf"arbiter worker=[1-9] gen={round_ + 1} pid=\d+ (exited|ended|killed)"
        assert not re.search(ended, until_reload), "nobody in service goes before the reload"

    there.open()
    settle(arbiter)
    arbiter.wait_for_workers(4)
    wait_for(lambda: len(arbiter.ledger.ended()) == len(ids), 30, "all jobs to be done")
    assert set(assert_one_place_each(connection, ids).values()) == {"finished:default"}
    assert sorted(arbiter.ledger.started()) == sorted(ids), "each began once"

    status = arbiter.status()
    assert (arbiter.pid, arbiter.pid_file.stat().st_ino, status["started"]) == identity
    assert (status["generation"], status["difference"], status["state"]) == (21, 1, "running")
    assert arbiter.pid_file.read_text() == f"{arbiter.pid}\n"
    with arbiter.pid_file.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wait_for(lambda: held(arbiter.pid) == before, what="the same descriptors as before")

    # The last image still does its work.
    killed = pids(arbiter)[2]
    arbiter.signal("KILL", pid=killed)
    wait_for(lambda: pids(arbiter).get(2, killed) != killed, what="a successor")
    stuck = gate()
    job = queue().enqueue(jobs.stuck_in_c, str(stuck), job_timeout=1)
    stuck_pid = stuck.wait_until_reached()
    arbiter.wait_for(r"stacks:(.*\n)+?.*stuck_in_c")
    wait_for(lambda: job.is_failed, 20, "its job to be failed")
    assert not processes.alive(stuck_pid)
    arbiter.wait_for_workers(4)
    assert arbiter.stop("TERM") == 0
    assert not arbiter.pid_file.exists()


def test_twenty_usr2_at_once_are_a_few_re_execs(resqued, connection, queue):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    ids = [queue().enqueue(jobs.sleep, 0.05).id for _ in range(60)]
    for _ in range(20):
        arbiter.signal("USR2")
    arbiter.wait_for("re-exec done", timeout=20)
    arbiter.wait_for(r"gen=2 in service", timeout=20)
    wait_for(lambda: len(arbiter.ledger.ended()) == 60, 30, "all jobs to be done")
    assert arbiter.stop("QUIT") == 0
    assert set(assert_one_place_each(connection, ids).values()) == {"finished:default"}
    assert sorted(arbiter.ledger.started()) == sorted(ids)


# --- A failed check changes nothing ----------------------------------------------------------

MISSING = 'def before_exec(argv): argv[0] = "/nowhere/python"\n'
EMPTIED = "def before_exec(argv): argv.clear()\n"
NO_TEXT = 'def before_exec(env): env["COUNT"] = 3\n'
RAISES = 'def before_exec(): raise RuntimeError("not today")\n'
WRONG_FLAG = 'def before_exec(argv): argv.append("--wrokers")\n'
WRONG_ENV = 'def before_exec(env): env["RESQUED_WORKERS"] = "many"\n'


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (MISSING, "No such file or directory: '/nowhere/python'"),
        (EMPTIED, "its check cannot be started"),
        (NO_TEXT, "its check cannot be started: TypeError"),
        (RAISES, "not today"),
        (WRONG_FLAG, "no such option --wrokers"),
        (WRONG_ENV, "RESQUED_WORKERS: 'many' is not a number of workers"),
    ],
    ids=["missing", "emptied", "no text", "raises", "flag", "environment"],
)
def test_what_before_exec_spoils_changes_nothing(resqued, queue, plugin, reason):
    arbiter = resqued("-n", 2, config=plugin, expect_errors=f"before_exec|re-exec|{reason}|Error")
    refused(arbiter, queue, reason)


def test_a_broken_config_file_changes_nothing_and_once_mended_it_goes(resqued, queue):
    arbiter = resqued(config="workers = 2\n", expect_errors="re-exec|resqued.conf.py|Syntax")
    arbiter.wait_for_workers(2)
    config = arbiter.directory / "resqued.conf.py"
    config.write_text("workers = = 2\n")
    refused(arbiter, queue, r"resqued\.conf\.py:1: .*invalid syntax")

    config.write_text("workers = 3\n")
    reexec(arbiter)
    settle(arbiter)
    arbiter.wait_for_workers(3)


def test_an_app_that_cannot_be_imported_changes_nothing(resqued, queue):
    arbiter = resqued("-n", 2, "-r", "app", app="", expect_errors="re-exec|app|import")
    arbiter.wait_for_workers(2)
    (arbiter.directory / "app.py").write_text("1 / 0\n")
    refused(arbiter, queue, "the import of 'app' failed: ZeroDivisionError")


def test_an_app_that_hangs_in_the_check_changes_nothing(resqued, queue):
    arbiter = resqued("-n", 2, "--boot-timeout", 3, "-r", "app", app="", expect_errors="re-exec")
    arbiter.wait_for_workers(2)
    (arbiter.directory / "app.py").write_text("import time\nwhile True: time.sleep(1)\n")
    # by the check itself, or by the arbiter that waits for it
    refused(arbiter, queue, r"(its check|the import of 'app') took longer than 3 s")


def refused(arbiter, queue, reason):
    """USR2 is refused with this reason, and it is as if it had never come."""
    workers, before = pids_of(arbiter, 2), held(arbiter.pid)
    mark = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec abandoned", timeout=20, after=mark)
    arbiter.wait_for(reason, after=mark)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
    stays_true(lambda: pids(arbiter) == workers, 0.3, "the workers stay")
    wait_for(lambda: held(arbiter.pid) == before, what="the same descriptors as before")
    assert arbiter.status()["generation"] == 1
    assert len(arbiter.fork_servers()) == 1
    assert "re-exec done" not in arbiter.log()


def pids_of(arbiter, count):
    return {number: each.pid for number, each in arbiter.wait_for_workers(count).items()}


# --- At the wrong time -----------------------------------------------------------------------

SLOW_APP = """
    import os, pathlib, time
    pathlib.Path("importing").write_text(str(os.getpid()))
    while not pathlib.Path("import-may-end").exists():
        time.sleep(0.01)
"""


def test_usr2_while_a_generation_boots_waits_for_it(resqued):
    arbiter = resqued("-n", 1, "-r", "app", app="")
    arbiter.wait_for_workers(1)
    slow_down(arbiter)
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the second generation to boot")
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec waits for the generation that boots")
    stays_true(lambda: "re-exec: checking" not in arbiter.log(), 0.3, "it waits")

    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for(r"gen=2 in service(.*\n)+.*re-exec: checking(.*\n)+.*re-exec done", timeout=20)
    arbiter.wait_for("gen=3 in service")


def test_usr2_after_a_reload_that_failed_goes_on(resqued):
    arbiter = resqued("-n", 1, "-r", "app", app="", expect_errors="gen=2|re-?exec|reload|Traceback")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "app.py").write_text(
        "import pathlib, time\npathlib.Path('importing').touch()\n"
        "while not pathlib.Path('import-may-end').exists(): time.sleep(0.01)\n"
        "if not pathlib.Path('mended').exists(): 1 / 0\n"
    )
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the second generation to boot")
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec waits for the generation that boots")
    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for("reload failed, gen=1 stays in service")
    arbiter.wait_for("re-exec abandoned: its check failed", timeout=20)

    (arbiter.directory / "mended").touch()
    reexec(arbiter)


def test_a_hup_during_a_check_that_fails_still_reloads(resqued):
    arbiter = resqued("-n", 1, "-r", "app", config="def before_exec(env): env['SLOW'] = '1'\n",
                      app="", expect_errors="re-exec")  # fmt: skip
    arbiter.wait_for_workers(1)
    (arbiter.directory / "app.py").write_text(
        "import os, pathlib, time\n"
        "if 'SLOW' in os.environ:\n"
        "    pathlib.Path('importing').touch()\n"
        "    while not pathlib.Path('import-may-end').exists(): time.sleep(0.01)\n"
        "    1 / 0\n"
    )
    arbiter.signal("USR2")
    wait_for((arbiter.directory / "importing").exists, 20, "the check to import the app")
    arbiter.signal("HUP")
    arbiter.wait_for("no reload now: one follows")
    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for("re-exec abandoned")
    arbiter.wait_for("gen=2 in service", timeout=20)


@pytest.mark.parametrize("signame", ["TERM", "QUIT"])
def test_leaving_during_the_check_takes_the_check_along(resqued, signame):
    arbiter = resqued("-n", 1, "-r", "app", app="")
    arbiter.wait_for_workers(1)
    slow_down(arbiter)
    arbiter.signal("USR2")
    importing = arbiter.directory / "importing"
    check = int(wait_for(lambda: importing.exists() and importing.read_text(), 20, "the check"))
    assert arbiter.stop(signame) == 0
    wait_for(lambda: not processes.alive(check), 10, "the check to be gone too")


def slow_down(arbiter):
    (arbiter.directory / "app.py").write_text(textwrap.dedent(SLOW_APP))


# --- The gap: from the exec until the new image listens --------------------------------------


def test_signals_in_the_gap_are_acted_upon_after_it(resqued):
    arbiter = resqued("-n", 2, "-v")
    arbiter.wait_for_workers(2)
    mark = into_the_gap(arbiter)
    arbiter.signal("TTIN", "USR1", "HUP", "CHLD")
    arbiter.wait_for("re-exec done", timeout=20, after=mark)
    arbiter.wait_for_workers(3)
    after = r"re-exec done(.*\n)+.*"
    for signame in ("TTIN", "USR1", "HUP"):
        arbiter.wait_for(f"{after}signal {signame}", after=mark)
    arbiter.wait_for(r"gen=3 in service", timeout=20)


@pytest.mark.parametrize("signame", ["TERM", "QUIT", "INT"])
def test_asked_to_leave_in_the_gap_it_leaves(resqued, connection, queue, gate, signame):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    into_the_gap(arbiter)
    arbiter.signal(signame)
    if signame == "QUIT":
        arbiter.wait_for("draining")
        there.open()
    assert arbiter.exit() == 0
    place = "finished:default" if signame == "QUIT" else "queue:default"
    assert assert_one_place_each(connection, [job.id]) == {job.id: place}


def test_deaths_in_the_gap_are_seen_after_it(resqued, connection, queue, gate):
    arbiter = resqued("-n", 3, expect_errors="ended|fork server")
    before = pids_of(arbiter, 3)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    busy = there.wait_until_reached()
    (server,) = arbiter.fork_servers()
    into_the_gap(arbiter)
    arbiter.signal("KILL", pid=busy)
    arbiter.signal("KILL", pid=server.pid)

    wait_for(lambda: job.is_failed, 20, "the dead worker's job to be failed")
    arbiter.wait_for("gen=2 in service", timeout=20)
    settle(arbiter)
    assert not set(before.values()) & set(pids_of(arbiter, 3).values())
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_a_count_changed_again_and_again_around_the_exec_comes_out_right(resqued):
    """As many TTIN as TTOU, each let through before the next, so that none coalesces."""
    arbiter = resqued("-n", 5, "-v")
    arbiter.wait_for_workers(5)
    mark = arbiter.mark()
    arbiter.signal("USR2")
    sent = 0
    while sent < 6 or sent % 2 or "re-exec done" not in arbiter.log()[mark:]:
        arbiter.signal("TTOU" if sent % 2 == 0 else "TTIN")
        sent += 1
        arbiter.wait_for(r"signal TT", times=sent, after=mark, timeout=20)
    arbiter.wait_for(r"gen=2 in service", timeout=20)
    settle(arbiter)
    arbiter.wait_for_workers(5)
    assert arbiter.status()["difference"] == 0


def into_the_gap(arbiter):
    """Send USR2, and return when the new image has begun and does not listen yet."""
    mark = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec: checking", after=mark)
    began = time.monotonic()
    process = psutil.Process(arbiter.pid)
    while processes.title(process).startswith("resqued: arbiter"):  # not even 10 ms between looks
        if is_late(began, 30):
            raise WaitedTooLong(f"no exec\n{arbiter.story()}")
    return mark
