"""Reload: whatever is wrong with the new, the old stays fully in service; and the good is taken."""

from __future__ import annotations

import re
import textwrap

import pytest

from harness import jobs, processes
from harness.waiting import stays_true, wait_for


def pids(arbiter):
    return {number: process.pid for number, process in arbiter.workers().items()}


def write(arbiter, name, text):
    (arbiter.directory / name).write_text(textwrap.dedent(text))


def held(pid):
    return [re.sub(r"\d+", "N", target) for target in processes.open_files(pid)]


def settle(arbiter):
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 20, "one generation to be left")


# --- The new is no good ----------------------------------------------------------------------

HANG = "import time\nwhile True: time.sleep(0.1)\n"
CRASH = "import faulthandler\nfaulthandler._sigsegv()\n"
EXIT = "import sys\nsys.exit('enough')\n"

BAD = {
    # name: (files that change on disk, what the log says)
    "app raises": ({"app.py": "1 / 0\n"}, "ZeroDivisionError: division by zero"),
    "app hangs": ({"app.py": HANG}, r"gen=2|not up after 3 s \(--boot-timeout\), still loading"),
    "app crashes": ({"app.py": CRASH}, "fork server ended while it booted: signal 11"),
    "app exits": ({"app.py": EXIT}, "SystemExit: enough"),
    "app is broken": ({"app.py": "def f(:\n"}, r"SyntaxError"),
    "config is broken": ({"resqued.conf.py": "workers = = 2\n"}, r"resqued.conf.py:1: .*syntax"),
    "config raises": ({"resqued.conf.py": "1 / 0\n"}, r"resqued.conf.py:1: ZeroDivisionError"),
    "setting is wrong": (
        {"resqued.conf.py": "workers = -3\nworkrs = 2\n"},
        r"workers: .*(.*\n)*.*unknown setting workrs; did you mean workers",
    ),
    "hook is misspelt": (
        {"resqued.conf.py": "def after_frok(worker): ...\n"},
        "Did you mean after_fork",
    ),
    "plugin is missing": ({"resqued.conf.py": "plugins = ['nowhere']\n"}, "no plugin 'nowhere'"),
    "share is too small": (
        {"resqued.conf.py": "queues = {'a': 1}\n"},
        "worker 2 of 2 would have no queue",
    ),
    "class is unknown": (
        {"resqued.conf.py": "worker_class = 'nowhere.Worker'\n"},
        "'nowhere.Worker' cannot be used",
    ),
    "configure refuses": (
        {"resqued.conf.py": "def configure(): raise ValueError('not so')\n"},
        "not so",
    ),
    "app_loaded raises": (
        {"resqued.conf.py": "def app_loaded(): raise ValueError('not so')\n"},
        "ValueError: not so",
    ),
    "after_fork raises": (
        {"resqued.conf.py": "def after_fork(): raise ValueError('not so')\n"},
        "trial worker ended before it was ready",
    ),
    "after_fork hangs": (
        {"resqued.conf.py": "def after_fork():\n    while True: ...\n"},
        "trial worker|still proving",
    ),
    "after_fork crashes": (
        {"resqued.conf.py": f"def after_fork():\n    {CRASH.replace(chr(10), ';')}\n"},
        "trial worker ended before it was ready: .*SIGSEGV|signal 11",
    ),
    "worker_ready raises": (
        {"resqued.conf.py": "def worker_ready(): raise ValueError('not so')\n"},
        "trial worker ended before it was ready",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_come_up_leaves_the_old_fully_in_service(resqued, queue, gate, name):
    files, reason = BAD[name]
    arbiter = resqued(
        "-n", 2, "-r", "app", "--boot-timeout", 8, app="", config="", expect_errors="."
    )
    arbiter.wait_for_workers(2)
    gates = [gate(), gate()]
    busy = [queue().enqueue(jobs.wait_at, str(each)) for each in gates]
    for each in gates:
        each.wait_until_reached()
    before = pids(arbiter)

    for file, text in files.items():
        write(arbiter, file, text)
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed, gen=1 stays in service", timeout=30)
    arbiter.wait_for(reason)
    wait_for(lambda: len(arbiter.fork_servers()) == 1, what="the failed generation to be gone")
    status = arbiter.status()
    assert "failed" in status["last_reload"]
    assert (status["generation"], status["state"]) == (1, "running")
    assert {each["number"]: each["pid"] for each in status["workers"]} == before
    assert {each["state"] for each in status["workers"]} == {"busy"}, "nobody was told to leave"

    for each in gates:
        each.open()
    for job in busy:
        wait_for(lambda job=job: job.is_finished, what="the jobs to be finished")
    wait_for(lambda: queue().enqueue(jobs.noop) and arbiter.ledger.ended()[2:], what="another job")
    assert pids(arbiter) == before, "and stayed"
    arbiter.signal("KILL", pid=before[1])
    after = wait_for(lambda: (new := pids(arbiter)).get(1, before[1]) != before[1] and new)
    assert after[2] == before[2], "a respawn, in the old generation"
    arbiter.wait_for_workers(2)


def test_after_a_bad_reload_a_good_one_is_taken(resqued, queue):
    arbiter = resqued("-n", 2, "-r", "app", app="def answer(): return 1\n", expect_errors=".")
    arbiter.wait_for_workers(2)
    for number, text in ((2, "1 / 0\n"), (3, "import sys\nsys.exit()\n")):
        write(arbiter, "app.py", text)
        arbiter.signal("HUP")
        arbiter.wait_for(f"gen={number} failed", timeout=15)
    write(arbiter, "app.py", "def answer(): return 4\n")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=4 in service", timeout=15)
    settle(arbiter)
    arbiter.wait_for_workers(2)
    job = queue().enqueue("app.answer")
    wait_for(lambda: job.return_value(refresh=True) == 4, what="the new code's answer")
    assert arbiter.status()["last_reload"] == "generation 4: done"


def test_a_worker_killed_while_the_new_hangs_is_replaced_in_the_old(resqued, queue):
    arbiter = resqued("-n", 2, "-r", "app", app="", expect_errors="gen=2|ended|reload failed")
    before = {number: each.pid for number, each in arbiter.wait_for_workers(2).items()}
    write(arbiter, "app.py", f"import pathlib\npathlib.Path('importing').touch()\n{HANG}")
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the new generation to hang")

    arbiter.signal("KILL", pid=before[1])
    wait_for(lambda: pids(arbiter).get(1, before[1]) != before[1], what="a successor")
    arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)


# --- A second one, an outage -----------------------------------------------------------------

SLOW = """
    import os, pathlib, time
    pathlib.Path("importing").write_text(str(os.getpid()))
    while True: time.sleep(0.1)
"""


def test_a_second_hup_replaces_a_generation_that_hangs_and_its_process(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", app="")
    arbiter.wait_for_workers(1)
    write(arbiter, "app.py", SLOW)
    arbiter.signal("HUP")
    importing = arbiter.directory / "importing"
    hung = int(wait_for(lambda: importing.exists() and importing.read_text(), what="the import"))
    write(arbiter, "app.py", "def answer(): return 3\n")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 is replaced by a newer reload")
    arbiter.wait_for("gen=3 in service")
    assert not processes.alive(hung)
    settle(arbiter)
    job = queue().enqueue("app.answer")
    wait_for(lambda: job.return_value(refresh=True) == 3, what="the third's answer")


def test_a_second_hup_with_a_bad_config_leaves_the_first_to_boot(resqued):
    arbiter = resqued(
        "-n", 1, "-r", "app", app="", config="", expect_errors="resqued.conf.py|reload|Syntax"
    )
    arbiter.wait_for_workers(1)
    write(arbiter, "app.py", SLOW.replace("True", "not pathlib.Path('import-may-end').exists()"))
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the import")
    write(arbiter, "resqued.conf.py", "workers = = 2\n")
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed")
    (arbiter.directory / "import-may-end").touch()
    arbiter.wait_for("gen=2 in service")


def test_a_reload_while_redis_is_away_waits_for_it(resqued, valkey, queue, gate):
    arbiter = resqued("-n", 2, "--boot-timeout", 3)
    before = {number: each.pid for number, each in arbiter.wait_for_workers(2).items()}
    valkey.stop()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 loaded; a trial worker has to come up")
    stays_true(lambda: pids(arbiter) == before, 4, "the old stays, past the boot timeout")
    assert "reload failed" not in arbiter.log()

    valkey.start()
    arbiter.wait_for("gen=2 in service", timeout=20)
    settle(arbiter)
    arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")


# --- The new is good -------------------------------------------------------------------------


def test_code_settings_queues_and_hooks_are_those_on_disk(resqued, queue):
    arbiter = resqued(
        "-r",
        "app",
        app="ANSWER = 1\ndef answer(): return ANSWER\n",
        config="""
            workers = 2
            queues = {"old": "all"}
            def worker_exited(): open("exited-old", "w").close()
            def before_job(): open("job-old", "w").close()
        """,
    )
    arbiter.wait_for_workers(2)
    old = queue("old").enqueue("app.answer")
    wait_for(lambda: old.return_value(refresh=True) == 1, what="the old code's answer")
    write(arbiter, "app.py", "ANSWER = 2\ndef answer(): return ANSWER\n")
    config = """
        workers = 3
        queues = {"new": "all", "rare": 1}
        def before_fork(worker): open(f"forked-{worker.number}", "w").close()
        def after_job(): open("job-new", "w").close()
        def tick(): open("tick-new", "w").close()
    """
    write(arbiter, "resqued.conf.py", config)
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    settle(arbiter)
    arbiter.wait_for_workers(3)
    for file in arbiter.directory.glob("*-old"):
        file.unlink()

    new = queue("new").enqueue("app.answer")
    wait_for(lambda: new.return_value(refresh=True) == 2, what="the new code's answer")
    wait_for((arbiter.directory / "job-new").exists, what="the new hook in a worker")
    wait_for((arbiter.directory / "tick-new").exists, what="the new hook in the arbiter")
    assert (arbiter.directory / "forked-3").exists(), "the new hook in the fork server"
    served = {each["number"]: each["queues"] for each in arbiter.status()["workers"]}
    assert served == {1: ["new", "rare"], 2: ["new"], 3: ["new"]}
    arbiter.signal("TTOU")
    arbiter.wait_for_workers(2)
    assert not list(arbiter.directory.glob("*-old")), "no old hook is called any more"


def test_fewer_workers_on_disk_are_fewer_after_it(resqued):
    arbiter = resqued(config="workers = 4\n")
    arbiter.wait_for_workers(4)
    write(arbiter, "resqued.conf.py", "workers = 1\n")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    settle(arbiter)
    arbiter.wait_for_workers(1)


def test_thirty_reloads_leave_no_descriptor_process_or_name_behind(resqued, connection, queue):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    before = held(arbiter.pid)
    ids = []
    for number in range(2, 32):
        ids.append(queue().enqueue(jobs.noop).id)
        arbiter.signal("HUP")
        arbiter.wait_for(f"gen={number} in service", timeout=20)
    settle(arbiter)
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    assert len(processes.descendants(arbiter.pid)) == 4
    wait_for(lambda: held(arbiter.pid) == before, what="the same descriptors as before")
    wait_for(lambda: len(arbiter.ledger.ended()) == 30, what="all jobs to be done")
    assert sorted(arbiter.ledger.started()) == sorted(ids)
    wait_for(lambda: connection.scard("rq:workers") == 2, what="two registered workers")
