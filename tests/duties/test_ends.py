"""The ends of the duties process: limits, deaths, reloads, stops."""

from __future__ import annotations

import os
import signal
import time

import pytest

from harness import processes
from harness.duties import all_of, duties_file, wait_for_process
from harness.waiting import scaled, stays_true, wait_for

HANGS = {
    "in Python": "while True: pass",
    "in a wait": "time.sleep(3600)",
    "with the interpreter's lock": "ctypes.PyDLL(None).sleep(3600)",
    "without signals": """
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                os.kill(os.getpid(), signal.SIGSTOP)""",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_call_that_exceeds_its_limit_is_killed_and_others_go_on(resqued, calls, hang):
    arbiter = resqued(
        config=duties_file(
            f"""
            def hang(duty):
                say(f"hang {{os.getpid()}}")
                {hang}

            def duties(duties):
                duties.add("hang", hang, every=0.5, limit=1)
                duties.add("other", lambda duty: say("other"), every=0.1)
            """
        ),
        expect_errors="duties pid=",
    )
    (killed,) = arbiter.wait_for(
        r"duties pid=(\d+) killed: duty 'hang' of plugin 'resqued.conf.py' took (\S+) s, its limit"
        r" is 1 s; it is called again in 0.5 s"
    )
    assert 1 <= float(killed[2]) < scaled(2)
    wait_for(lambda: len({each for each in calls() if each.startswith("hang")}) >= 2)
    assert "other" in calls()
    assert calls()[0] == f"hang {killed[1]}"


def test_the_whole_group_of_a_killed_call_ends(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            def start(duty):
                say(subprocess.Popen(["sleep", "3600"]).pid)
                time.sleep(3600)

            def duties(duties):
                duties.add("start", start, every=3600, limit=0.5)
            """
        ),
        expect_errors="duties pid=",
    )
    arbiter.wait_for("killed: duty 'start'")
    wait_for(lambda: not processes.alive(int(calls()[0])))


DEATHS = {
    "exits": ("os._exit(3)", "exit status 3"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    "crashes": ("ctypes.string_at(0)", "signal 11"),
}


@pytest.mark.parametrize(("death", "how"), DEATHS.values(), ids=DEATHS)
def test_a_process_that_dies_is_started_again_with_back_off(resqued, calls, death, how):
    """The duty that was called then is called once more, then waits for its time; the others go on
    at theirs."""
    arbiter = resqued(
        config=duties_file(
            f"""
            def die(duty):
                say(f"die {{time.monotonic():.3f}}")
                {death}

            def duties(duties):
                duties.add("die", die, every=3)
                duties.add("other", lambda duty: say("other"), every=0.1)
                duties.add("rare", lambda duty: say("rare"), every=3600)
            """
        ),
        expect_errors="duties pid=|Fatal|fault",
    )
    arbiter.wait_for(rf"duties pid=\d+ ended: {how}, in duty 'die'$")
    arbiter.wait_for(rf"duties pid=\d+ ended: {how}, in duty 'die'; next try in 1 s$")
    wait_for(lambda: len([each for each in calls() if each.startswith("die")]) >= 3)
    arbiter.wait_for("started: die, other, rare", times=3)
    assert calls().count("other") > 2
    assert calls().count("rare") == 1
    times = [float(each.split()[1]) for each in calls() if each.startswith("die")]
    assert times[1] - times[0] < scaled(2)
    assert times[2] - times[1] >= 3


def test_a_process_that_is_killed_between_calls_is_replaced(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            def duties(duties):
                duties.add("rare", lambda duty: say(os.getpid()), every=3600)
            """
        ),
        expect_errors="duties pid=",
    )
    first = wait_for_process(arbiter)
    wait_for(calls)
    first.kill()
    arbiter.wait_for(rf"duties pid={first.pid} ended: signal 9$")
    wait_for_process(arbiter, other_than=first.pid)
    stays_true(lambda: len(calls()) == 1, 0.5, "it is not due again")


SLOW = """
    def slow(duty):
        say(f"{os.getpid()} begins")
        time.sleep(3600)

    def duties(duties):
        duties.add("slow", slow, every=3600, limit=3600)
    """


@pytest.mark.parametrize("name", ["QUIT", "INT", "TERM"])
def test_a_stop_ends_it_soon_whatever_it_does(resqued, calls, name):
    arbiter = resqued(config=duties_file(SLOW))
    wait_for(calls)
    began = time.monotonic()
    assert arbiter.stop(name) == 0
    assert time.monotonic() - began < scaled(4)


def test_a_drain_ends_it_before_the_last_job(resqued, calls, queue, gate):
    arbiter = resqued(config=duties_file(SLOW))
    wait_for(calls)
    closed = gate()
    queue().enqueue("harness.jobs.wait_at", str(closed))
    closed.wait_until_reached()
    arbiter.signal("QUIT")
    wait_for(lambda: not all_of(arbiter))
    assert arbiter.running
    closed.open()
    assert arbiter.exit() == 0


def test_exit_functions_run_when_it_leaves(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            import atexit

            def note(duty):
                atexit.register(say, "left")
                say("noted")

            def duties(duties):
                duties.add("note", note, every=3600)
            """
        )
    )
    wait_for(calls)
    assert arbiter.stop("QUIT") == 0
    assert calls() == ["noted", "left"]


def test_exit_functions_run_when_it_is_told_to_leave_in_a_call(resqued, calls, gate):
    closed = gate()
    arbiter = resqued(
        config=duties_file(
            f"""
            import atexit

            def note(duty):
                atexit.register(say, "left")
                say("noted")
                from harness import jobs
                jobs.wait_at({str(closed)!r})

            def duties(duties):
                duties.add("note", note, every=3600)
            """
        )
    )
    closed.wait_until_reached()
    arbiter.signal("QUIT")
    arbiter.wait_for("draining")
    closed.open()
    assert arbiter.exit() == 0
    assert calls() == ["noted", "left"]


def test_a_reload_moves_it_to_the_new_generation(resqued, calls, queue, gate):
    """At once, although a worker of the old one still works."""
    text = """
        def duties(duties):
            duties.add("say", lambda duty: say("{}"), every=0.1)
        """
    arbiter = resqued(config=duties_file(text.format("old")))
    first = wait_for_process(arbiter)
    wait_for(calls)
    closed = gate()
    queue().enqueue("harness.jobs.wait_at", str(closed))
    closed.wait_until_reached()
    (arbiter.directory / "resqued.conf.py").write_text(duties_file(text.format("new")))
    arbiter.signal("HUP")
    second = wait_for_process(arbiter, other_than=first.pid)
    assert processes.parent(second) == arbiter.fork_servers()[-1].pid
    wait_for(lambda: calls()[-1] == "new")
    stays_true(lambda: calls()[-1] == "new", 0.5, "the old one is gone")
    assert len(arbiter.fork_servers()) == 2
    closed.open()


def test_a_reload_without_the_duties_ends_it(resqued, calls):
    arbiter = resqued(config=duties_file(SLOW))
    wait_for(calls)
    (arbiter.directory / "resqued.conf.py").write_text("")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    wait_for(lambda: not all_of(arbiter))
    wait_for(lambda: arbiter.status()["duties"] is None)


def test_a_re_exec_moves_it_too(resqued, calls):
    arbiter = resqued(config=duties_file(SLOW))
    first = wait_for_process(arbiter)
    wait_for(calls)
    arbiter.signal("USR2")
    second = wait_for_process(arbiter, other_than=first.pid, timeout=30)
    wait_for(lambda: len(calls()) == 2)
    assert calls()[1] == f"{second.pid} begins"


def test_it_dies_with_its_fork_server_and_comes_with_the_next(resqued, calls):
    arbiter = resqued(config=duties_file(SLOW), expect_errors="fork server")
    first = wait_for_process(arbiter)
    wait_for(calls)
    os.kill(arbiter.fork_servers()[0].pid, signal.SIGKILL)
    wait_for(lambda: not processes.alive(first.pid))
    second = wait_for_process(arbiter, other_than=first.pid, timeout=30)
    wait_for(lambda: calls()[1:] == [f"{second.pid} begins"])


def test_none_is_left_when_the_arbiter_is_killed(resqued, calls):
    arbiter = resqued(config=duties_file(SLOW))
    process = wait_for_process(arbiter)
    wait_for(calls)
    arbiter.signal("KILL")
    assert arbiter.exit() == -9
    wait_for(lambda: not processes.alive(process.pid))
