"""Calls of duties: when, what they get, what they may return and raise."""

from __future__ import annotations

import itertools
import time

from harness import processes
from harness.duties import all_of, duties_file, wait_for_process
from harness.waiting import scaled, stays_true, wait_for


def test_a_duty_is_called_again_and_again(resqued, calls, connection):
    arbiter = resqued(
        config=duties_file(
            """
            def count(duty):
                say(f"{duty.name} {duty.token} {os.getpid()} {duty.arbiter} {duty.config.workers}")

            def duties(duties):
                duties.add("count", count, every=0.1)
            """
        )
    )
    wait_for(lambda: len(calls()) >= 3)
    arbiter.wait_for_steward()
    process = wait_for_process(arbiter)
    (line,) = set(calls())
    name, token, pid, identity, workers = line.split()
    assert (name, token, int(pid), workers) == ("count", "0", process.pid, "1")
    assert connection.hexists("rq:resqued:arbiters", identity)
    assert arbiter.status()["duties"] == process.pid
    assert processes.parent(process) == arbiter.fork_servers()[0].pid
    arbiter.wait_for(rf"duties pid={process.pid} started: count$")
    assert arbiter.stop("QUIT") == 0


def test_without_duties_there_is_no_process(resqued):
    arbiter = resqued("-n", 1, config="def duties(duties): pass")
    arbiter.wait_for_workers(1)
    arbiter.wait_for_steward()
    assert arbiter.status()["duties"] is None
    stays_true(lambda: not all_of(arbiter), 1, "no duties process")


def test_a_duty_may_say_when_it_is_called_next(resqued, calls):
    resqued(
        config=duties_file(
            """
            def soon(duty):
                say(f"{time.time():.3f}")
                return time.time() + 0.5

            def past(duty):
                say("past")
                return time.time() - 1000 if _left.pop() else time.time() + 3600

            _left = [0, 1, 1]

            def duties(duties):
                duties.add("soon", soon, every=3600)
                duties.add("past", past, every=3600)
            """
        )
    )
    times = wait_for(lambda: [float(each) for each in calls() if each != "past"][2:] and calls())
    begun = [float(each) for each in times if each != "past"]
    assert all(0.5 <= later - earlier < 5 for earlier, later in itertools.pairwise(begun))
    assert calls().count("past") == 3


def test_what_a_duty_raises_is_logged_once_and_it_is_called_again(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            def fail(duty):
                say("fail")
                raise ValueError("no\\nroute")

            def leave(duty):
                say("leave")
                sys.exit("enough")

            def answer(duty):
                say("answer")
                return "tomorrow"

            def duties(duties):
                for function in (fail, leave, answer):
                    duties.add(function.__name__, function, every=0.05)
            """
        ),
        expect_errors="duty|Traceback|ValueError|SystemExit",
    )
    for name in ("fail", "leave", "answer"):
        wait_for(lambda name=name: calls().count(name) > 10)
    log = arbiter.log()
    said = "plugin 'resqued.conf.py' raised ValueError: no route"
    assert f"duty 'fail': {said} (resqued.conf.py:13); it is called again in 0.05 s" in log
    assert (
        f"duty 'fail': {said} (resqued.conf.py:13), 10 times in a row; it is called again in 0.05 s"
        in log
    )
    assert "plugin 'resqued.conf.py' raised SystemExit: enough (resqued.conf.py:17)" in log
    assert "returned 'tomorrow', but it may return the Unix time of its next call, or None" in log
    assert log.count("Traceback") == 2
    assert log.count("duty 'fail'") == 2
    assert len(all_of(arbiter)) == 1


def test_a_child_that_a_duty_forks_does_not_go_on_with_the_loop(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            def fork(duty):
                if os.fork() == 0:
                    return say(f"child {os.getpid()}")
                os.wait()
                say(f"parent {os.getpid()}")

            def duties(duties):
                duties.add("fork", fork, every=0.1)
            """
        )
    )
    wait_for(lambda: len(calls()) >= 6)
    assert len({line for line in calls() if line.startswith("parent")}) == 1
    children = [line for line in calls() if line.startswith("child")]
    assert len(set(children)) == len(children)
    assert len(all_of(arbiter)) == 1


def test_signals_that_a_duty_blocks_and_takes_are_given_back(resqued, calls):
    arbiter = resqued(
        config=duties_file(
            """
            def take(duty):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
                say("taken")

            def duties(duties):
                duties.add("take", take, every=3600)
            """
        )
    )
    wait_for(calls)
    arbiter.wait_for("duty 'take' of plugin 'resqued.conf.py' has blocked SIGTERM; undone")
    arbiter.wait_for("has changed the handlers of SIGUSR1; undone")
    began = time.monotonic()
    assert arbiter.stop("QUIT") == 0
    assert time.monotonic() - began < scaled(60)


def test_a_duty_that_is_often_due_does_not_keep_another_from_being_called(resqued, calls):
    resqued(
        config=duties_file(
            """
            def greedy(duty):
                say("greedy")
                return 0

            def duties(duties):
                duties.add("greedy", greedy, every=60)
                duties.add("other", lambda duty: say("other"), every=0.2)
            """
        )
    )
    wait_for(lambda: calls().count("other") >= 3)
    assert calls().count("greedy") > 3


def test_log_files_are_reopened_and_plugins_told(resqued, calls, tmp_path):
    log = tmp_path / "a.log"
    arbiter = resqued(
        "--log-file",
        log,
        config=duties_file(
            """
            def reopen_logs(role):
                say(f"reopen {role}")

            def duties(duties):
                duties.add("wait", lambda duty: None, every=3600)
                duties.add("fail", lambda duty: 1 / 0, every=0.2)
            """
        ),
        expect_errors="duty|Traceback|ZeroDivisionError",
    )
    wait_for(lambda: log.exists() and "duty 'fail'" in log.read_text())
    log.rename(tmp_path / "b.log")
    arbiter.signal("USR1")
    wait_for(lambda: "reopen duties" in calls())
    wait_for(lambda: log.exists() and "duty 'fail'" in log.read_text())
