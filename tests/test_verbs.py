"""What plugins may ask of the arbiter, from hooks and from threads, and how their requests end."""

from __future__ import annotations

import os
import re
import textwrap

import pytest

from harness import jobs, processes
from harness.remote import Remote
from harness.waiting import stays_true, wait_for

REMOTE = ("-p", "harness.remote")


def test_scale_is_done_when_so_many_workers_are_ready(resqued):
    arbiter = resqued("-n", 1, *REMOTE)
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    assert remote.ask("scale(3)") is None
    assert len(arbiter.workers()) == 3
    assert remote.eval("[worker.number for worker in arbiter.workers]") == [1, 2, 3]
    assert remote.ask("scale(1)") is None
    arbiter.wait_for_workers(1)
    assert remote.eval("arbiter.wished") == 1


def test_a_newer_request_replaces_an_open_one_and_says_so(resqued):
    arbiter = resqued("-n", 1, *REMOTE)
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    remote.eval("open.update(first=arbiter.scale(2), second=arbiter.scale(3))")
    assert remote.end("first") == "replaced by a newer request: scale"
    assert remote.end("second") is None
    arbiter.wait_for("scale: refused: replaced by a newer request: scale")


@pytest.mark.parametrize(
    ("verb", "why"),
    [
        ("scale(-1)", "at least 0 and at most"),
        ("scale(100000)", r"at most 4095 \(slots of the scoreboard\)"),
        ("recycle(7)", "there is no worker 7"),
        ("recycle(0)", "there is no worker 0"),
        ("scale('3')", "TypeError: scale: '3' is not a whole number"),
        ("call_soon(3)", "TypeError: call_soon: 3 is not a function"),
        ("every(0, print)", "ValueError: every: seconds=0 is not a positive number"),
        ("call_soon(lambda: 1 / 0)", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(resqued, verb, why):
    expected = "ZeroDivisionError|Traceback" if "/ 0" in verb else ""
    arbiter = resqued("-n", 1, *REMOTE, expect_errors=expected)
    arbiter.wait_for_workers(1)
    answer = Remote(arbiter.directory).ask(verb)
    assert answer is not None

    assert re.search(why, answer)
    if "Error" not in why:
        arbiter.wait_for(re.escape(answer))


def test_max_workers_bounds_who_ever_asks(resqued):
    arbiter = resqued(
        "-n", 1, "--max-workers", 2, *REMOTE, config="def worker_count(arbiter): return 9"
    )
    arbiter.wait_for_workers(2)
    arbiter.wait_for(r"worker_count wants 9 workers: at most 2 \(--max-workers\)")
    arbiter.signal("TTIN")
    arbiter.wait_for(r"no more workers: at most 2 \(--max-workers\)")
    answer = Remote(arbiter.directory).ask("scale(3)")
    assert answer == "3 workers: at least 0 and at most 2 (--max-workers)"


def test_reload_is_done_when_the_new_generation_is_in_service(resqued):
    arbiter = resqued(
        "-n", 1, "-r", "app", *REMOTE, app="", expect_errors="gen=3|reload failed|Traceback"
    )
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    assert remote.ask("reload()") is None
    assert remote.eval("arbiter.generation") == 2
    (arbiter.directory / "app.py").write_text("raise OSError('no disk')")
    assert "OSError: no disk" in remote.ask("reload()")
    assert remote.eval("arbiter.generation") == 2
    (arbiter.directory / "app.py").write_text("")
    assert remote.ask("reload()") is None


def test_a_reload_that_is_replaced_by_a_newer_one_is_refused(resqued, gate):
    arbiter = resqued("-n", 1, "-r", "app", *REMOTE, app="")
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    entered = gate()
    (arbiter.directory / "app.py").write_text(
        f"from harness import jobs; jobs.wait_at({str(entered)!r})"
    )
    remote.begin("first", "reload()")
    arbiter.wait_for("gen=2 reload: booting")
    (arbiter.directory / "app.py").write_text("")
    arbiter.signal("HUP")
    assert remote.end("first") == "replaced by a newer reload, generation 3"
    arbiter.wait_for("gen=3 in service")


def test_rest_and_resume(resqued):
    arbiter = resqued("-n", 2, *REMOTE)
    arbiter.wait_for_workers(2)
    remote = Remote(arbiter.directory)
    assert remote.ask("scale(3)") is None
    assert remote.ask("rest()") is None
    assert arbiter.workers() == {}
    assert remote.eval("arbiter.state") == "resting"
    assert remote.ask("resume()") is None
    assert len(arbiter.workers()) == 3, "the count that was in force before the rest"


def test_recycle_replaces_one_worker_after_its_job(resqued, queue, gate):
    arbiter = resqued("-n", 2, *REMOTE)
    before = arbiter.wait_for_workers(2)
    remote = Remote(arbiter.directory)
    assert remote.ask("recycle(1)") is None
    after = arbiter.wait_for_workers(2)
    assert after[1].pid != before[1].pid
    assert after[2].pid == before[2].pid


def test_replan_replaces_only_workers_whose_queues_change(resqued):
    arbiter = resqued(
        "-n",
        2,
        *REMOTE,
        config="""
            from pathlib import Path
            def choose_queues(number):
                return Path(f"queues-{number}").read_text().split() if number == 2 else ["default"]
            Path("queues-2").exists() or Path("queues-2").write_text("mails")
        """,
    )
    before = arbiter.wait_for_workers(2)
    remote = Remote(arbiter.directory)
    (arbiter.directory / "queues-2").write_text("reports mails")
    assert remote.ask("replan()") is None
    after = arbiter.wait_for_workers(2)
    assert after[1].pid == before[1].pid
    assert after[2].pid != before[2].pid
    assert remote.eval("arbiter.workers[1].queues") == ("reports", "mails")
    (arbiter.directory / "queues-2").write_text("")
    assert "worker 2 of 2 would have no queue" in remote.ask("replan()")
    assert arbiter.wait_for_workers(2)[2].pid == after[2].pid


def test_reexec_keeps_everything_and_refuses_what_cannot_start(resqued):
    arbiter = resqued("-n", 1, *REMOTE, config="workers = 1", expect_errors="re-exec abandoned")
    worker = arbiter.wait_for_workers(1)[1]
    remote = Remote(arbiter.directory)
    (arbiter.directory / "resqued.conf.py").write_text("workers = 'many'")
    assert "its check failed" in remote.ask("reexec()")
    assert processes.alive(worker.pid)
    (arbiter.directory / "resqued.conf.py").write_text("workers = 1")
    remote.begin("reexec", "reexec()")
    arbiter.wait_for("re-exec done", timeout=30)
    arbiter.wait_for("gen=2 in service", timeout=30)


@pytest.mark.parametrize("verb", ["drain", "stop"])
def test_the_arbiter_can_be_told_to_leave(resqued, queue, gate, verb):
    arbiter = resqued("-n", 1, *REMOTE)
    arbiter.wait_for_workers(1)
    held = gate()
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    remote = Remote(arbiter.directory)
    remote.begin("open", "scale(2)")
    remote.begin("leave", f"{verb}()")
    if verb == "drain":
        stays_true(lambda: arbiter.running, 0.5, "the job is waited for")
        held.open()
    assert arbiter.exit() == 0
    job.refresh()
    assert job.get_status() == ("finished" if verb == "drain" else "queued")


def test_a_drain_that_a_stop_overtakes_is_refused(resqued, queue, gate):
    arbiter = resqued(
        "-n",
        1,
        *REMOTE,
        config="""
            def worker_exited(arbiter, worker, exit):
                open("refused", "w").write(str(arbiter.drained.refused))
            def signal_received(arbiter, signame):
                if signame == "TTIN":
                    type(arbiter).drained = arbiter.drain()
                    return True
        """,
    )
    arbiter.wait_for_workers(1)
    held = gate()
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    arbiter.signal("TTIN")
    arbiter.wait_for("draining")
    arbiter.signal("INT")
    assert arbiter.exit() == 0
    assert "stopping now: asked to stop now" in (arbiter.directory / "refused").read_text()


def test_verbs_work_in_hooks_and_a_hook_cannot_wait_for_its_own_loop(resqued):
    arbiter = resqued(
        "-n",
        1,
        config="""
            def arbiter_ready(arbiter, reason):
                if reason == "start":
                    request = arbiter.scale(2)
                    try:
                        request.wait(1)
                    except RuntimeError as error:
                        print("waited:", error, flush=True)
        """,
    )
    arbiter.wait_for("waited: a hook cannot wait for the arbiter's loop")
    arbiter.wait_for_workers(2)


def test_call_soon_runs_in_the_loop_and_names_the_plugin_of_what_raises(resqued):
    arbiter = resqued("-n", 1, *REMOTE, expect_errors="call_soon|Traceback|Zero")
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    main = "threading.main_thread().ident"
    assert remote.ask(f"call_soon(lambda: 1 / ({main} == threading.get_ident()))") is None
    assert "ZeroDivisionError" in remote.ask(f"call_soon(lambda: 1 / ({main} == 0))")
    arbiter.wait_for(r"hook call_soon: plugin 'harness.remote' raised ZeroDivisionError")


def test_every_calls_again_and_again_until_its_plugin_is_dropped(resqued):
    config = """
        import os
        def arbiter_started(arbiter, reason):
            arbiter.every(0.05, beat)
        def beat():
            os.write(_beats, b"{mark}")
        _beats = os.open("beats", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    """
    arbiter = resqued("-n", 1, config=config.replace("{mark}", "1"))
    beats = arbiter.directory / "beats"
    wait_for(lambda: beats.exists() and beats.read_text().count("1") > 3, what="some beats")
    text = textwrap.dedent(config).replace("{mark}", "2")
    (arbiter.directory / "resqued.conf.py").write_text(text)
    arbiter.signal("HUP")
    wait_for(lambda: beats.read_text().count("2") > 3, what="beats of the new config file")
    ones = beats.read_text().count("1")
    twos = beats.read_text().count("2")
    wait_for(lambda: beats.read_text().count("2") > twos + 5, what="more of them")
    assert beats.read_text().count("1") <= ones + 1, "the old one's thread has ended"


def test_what_every_raises_is_logged_thinned(resqued):
    arbiter = resqued(
        "-n",
        1,
        config="""
            def arbiter_started(arbiter):
                arbiter.every(0.01, lambda: {}["missing"])
        """,
        expect_errors="every",
    )
    arbiter.wait_for(r"plugin 'resqued.conf.py': every 0.01 s: KeyError: 'missing' .*10 times")
    assert len(arbiter.wait_for("KeyError")) == 2


def test_many_threads_may_ask_at_once(resqued):
    arbiter = resqued("-n", 2, *REMOTE)
    arbiter.wait_for_workers(2)
    remote = Remote(arbiter.directory)
    answer = remote.eval(
        """(lambda ended: ([thread.start() or thread for thread in [threading.Thread(target=lambda:
        ended.extend((arbiter.call_soon(os.getpid).wait(60), len(arbiter.workers) >= 0)
        for _ in range(50)))
        for _ in range(8)]], [thread.join() for thread in threading.enumerate()
        if thread.name.endswith('(<lambda>)')], len(ended), all(map(all, ended)))[2:])([])"""
    )
    assert answer == (400, True)
    assert arbiter.running
    os.kill(arbiter.pid, 0)
