"""What one job does to its process does not meet the next one; through the installed command."""

from __future__ import annotations

import os

import pytest
from rq import Callback

from harness.waiting import wait_for

APP = """
import asyncio, contextvars, decimal, gc, locale, logging, os, random, resource, signal, socket
import subprocess, sys, tempfile, threading, time, warnings
from rq import get_current_job

var = contextvars.ContextVar("var", default="clean")

# --- what jobs do

def ignore_children():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def default_pipe():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

def own_handlers():
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 9):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})

def timers():
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0.05)

def go_and_remove():
    there = tempfile.mkdtemp()
    os.chdir(there)
    os.rmdir(there)

def go_away():
    os.chdir("/")

def mask_files():
    os.umask(0o777)

def close_descriptors():
    for fd in (0, 1, 2):
        os.close(fd)

def redirect():
    null = os.open("/dev/null", os.O_RDONLY)
    for fd in (0, 1, 2):
        os.dup2(null, fd)

def nonblocking():
    os.set_blocking(1, False)
    os.set_blocking(2, False)

def close_streams():
    sys.stdin.close(); sys.stdout.close(); sys.stderr.close()

def close_buffers():
    sys.stdout.buffer.close()
    sys.stderr.detach()

def no_streams():
    sys.stdin = sys.stdout = sys.stderr = None

def change_environment():
    os.environ["GIVEN"] = "changed"
    del os.environ["GIVEN_TOO"]

def clear_environment():
    os.environ.clear()

def replace_environment():
    os.environ = {}

def set_context():
    var.set("dirty")
    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True

def switch_off_logging():
    logging.disable(logging.CRITICAL)

def configure_logging():
    import logging.config
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})

def remove_sinks():
    import loguru
    loguru.logger.remove()
    loguru.logger.disable("")

def interpreter():
    sys.setrecursionlimit(200)
    gc.disable()
    sys.path.insert(0, "/nowhere")
    sys.setprofile(lambda *given: None)
    warnings.simplefilter("error")
    socket.setdefaulttimeout(0.001)

def limits():
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CPU, (9, resource.getrlimit(resource.RLIMIT_CPU)[1]))

def numbers():
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")

def more_limits():
    for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, ((1 << 30 if hard < 0 else hard) - 1, hard))

def another_path():
    sys.path = ["/nowhere", *sys.path]

def no_path():
    sys.path = None

def other_encoding():
    sys.stdout.reconfigure(encoding="ascii", errors="replace", line_buffering=True)
    sys.stderr.reconfigure(encoding="utf-16")

def seldom_collected():
    gc.set_threshold(0)

def run_coroutine():
    asyncio.run(asyncio.sleep(0))

def close_loop():
    asyncio.set_event_loop(asyncio.new_event_loop())
    asyncio.get_event_loop().close()

def other_process_group():
    os.setpgid(0, os.getpgid(os.getppid()))

def fails():
    own_handlers()
    close_streams()
    clear_environment()
    raise ValueError("look for me")

# --- what the next one finds

def ran():
    return subprocess.run(["sh", "-c", "exit 3"]).returncode

def pipe():
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    except BrokenPipeError:
        return "BrokenPipeError"
    finally:
        os.close(write)

def loop():
    try:
        return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, "works"))
    except RuntimeError as error:  # from Python 3.14 on there is none that nobody has made
        return str(error)

def look():
    signums = signal.valid_signals() - {signal.SIGALRM}
    mask = os.umask(0); os.umask(mask)
    pids = os.environ.pop("RQ_JOB_ID")
    lowest = os.open("/dev/null", os.O_RDONLY); os.close(lowest)
    found = {
        "exit status": ran(), "pipe": pipe(), "cwd": os.getcwd(), "umask": oct(mask),
        "handlers": sorted(f"{s} {signal.getsignal(s)!r}" for s in signums),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timers": [signal.getitimer(t)[0] for t in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)],
        "environment": sorted(os.environ.items()), "its type": type(os.environ).__name__,
        "real environment": subprocess.run(["env"], capture_output=True).stdout.count(b"GIVEN"),
        "files": [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)],
        "blocking": [os.get_blocking(fd) for fd in (1, 2)], "free descriptor": lowest > 2,
        "streams": [type(s).__name__ for s in (sys.stdin, sys.stdout, sys.stderr)],
        "closed": [s.closed for s in (sys.stdin, sys.stdout, sys.stderr)],
        "var": var.get(), "prec": decimal.getcontext().prec, "third": str(decimal.Decimal(1) / 3),
        "logging": logging.root.manager.disable, "recursion": sys.getrecursionlimit(),
        "gc": (gc.isenabled(), gc.get_threshold()), "path": sys.path, "loop": loop(),
        "encodings": [(s.encoding, s.errors, s.line_buffering) for s in (sys.stdout, sys.stderr)],
        "process group": os.getpgrp() == os.getpid(), "profile": sys.getprofile() is None,
        "filters": len(warnings.filters), "timeout": socket.getdefaulttimeout(),
        "limits": [resource.getrlimit(r) for r in range(10)],
        "locale": locale.setlocale(locale.LC_ALL), "pid": os.getpid(),
    }
    os.environ["RQ_JOB_ID"] = pids
    print("seen by everybody"); print("seen as well", file=sys.stderr)
    return found
"""

DEEDS = [
    "ignore_children",
    "default_pipe",
    "own_handlers",
    "timers",
    "go_and_remove",
    "go_away",
    "mask_files",
    "close_descriptors",
    "redirect",
    "nonblocking",
    "close_streams",
    "close_buffers",
    "no_streams",
    "change_environment",
    "clear_environment",
    "replace_environment",
    "set_context",
    "switch_off_logging",
    "configure_logging",
    "remove_sinks",
    "interpreter",
    "limits",
    "numbers",
    "more_limits",
    "another_path",
    "no_path",
    "other_encoding",
    "seldom_collected",
    "run_coroutine",
    "close_loop",
    "other_process_group",
    "fails",
]


@pytest.fixture
def perform(queue):
    """`perform("app.look")`: run a job to its end; what it returned, or None if it failed."""

    def perform(function: str, *arguments: object, **settings: object):
        job = queue().enqueue(function, *arguments, **settings)
        wait_for(lambda: job.get_status(refresh=True).value in ("finished", "failed"), 20, function)
        return job.return_value(refresh=True)

    return perform


@pytest.mark.parametrize("preloaded", [True, False], ids=["preloaded", "imported by the job"])
def test_whatever_a_job_does_to_its_process_the_next_finds_it_as_it_was(
    resqued, perform, preloaded
):
    extra = ["-r", "app"] if preloaded else []
    arbiter = resqued(
        "-n",
        1,
        *extra,
        app=APP,
        GIVEN="1",
        GIVEN_TOO="2",
        expect_errors="failed job|rq.worker|Traceback",
    )
    before = perform("app.look")
    left_over = {}
    for deed in DEEDS:
        perform(f"app.{deed}")
        now = perform("app.look")
        assert now is not None, f"after {deed}:\n{arbiter.story()}"
        if different := {key: (before[key], now[key]) for key in now if now[key] != before[key]}:
            left_over[deed] = different
    assert left_over == {}
    arbiter.wait_for("seen by everybody", times=len(DEEDS) + 1)
    arbiter.wait_for("seen as well", times=len(DEEDS) + 1)
    arbiter.wait_for("finished job=", times=2 * len(DEEDS))
    arbiter.wait_for("ValueError: look for me")


def test_a_print_is_seen_when_the_job_has_ended(resqued, perform, tmp_path):
    out = tmp_path / "out"
    resqued("-n", 1, "--stdout-path", out, app="def speak(): print('hello', end='')")
    perform("app.speak")
    wait_for(lambda: out.read_text() == "hello", 5, "the print, while the worker lives on")


def test_rotation_during_a_job_that_has_redirected_its_output(resqued, queue, gate, tmp_path):
    out, there = tmp_path / "out", gate()
    app = """
    import os, pathlib
    def redirects(gate):
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        pathlib.Path(gate + ".reached").write_text(str(os.getpid()))
        while not os.path.exists(gate):
            pass
    def speak(): print("in the new file")
    """
    arbiter = resqued("-n", 1, "--stdout-path", out, app=app)
    queue().enqueue("app.redirects", str(there))
    there.wait_until_reached()
    out.rename(tmp_path / "old")
    arbiter.signal("USR1")
    wait_for(out.exists, 10, "the arbiter to reopen it")
    there.open()
    queue().enqueue("app.speak")
    wait_for(lambda: "in the new file" in out.read_text(), 10, "a print after the rotation")


def test_what_an_import_sets_stays_and_what_the_job_sets_then_does_not(resqued, perform):
    app = """
    import decimal, os, signal, contextvars, sys
    var = contextvars.ContextVar("var")
    def numbers():
        import late
        old = (decimal.getcontext().prec, os.environ["LATE"], os.environ["GIVEN"], late.var.get())
        return [*old, signal.getsignal(signal.SIGRTMIN + 7).__name__, var.get(None)]
    def change():
        decimal.getcontext().prec = 3
        os.environ["LATE"] = os.environ["GIVEN"] = "by a job"
        signal.signal(signal.SIGRTMIN + 7, signal.SIG_IGN)
        var.set("by a job")
        import late
        late.var.set("by a job")
    def children():
        import other
        import subprocess
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    def status():
        import subprocess
        return subprocess.run(["false"]).returncode
    """
    late = (
        "import contextvars, decimal, os, signal\nvar = contextvars.ContextVar('late')\n"
        "decimal.getcontext().prec = 50\nos.environ['LATE'] = os.environ['GIVEN'] = 'import'\n"
        "def handler(signum, frame): pass\nsignal.signal(signal.SIGRTMIN + 7, handler)\n"
        "var.set('import')\n"
    )
    arbiter = resqued("-n", 1, app=app, GIVEN="1")
    (arbiter.directory / "late.py").write_text(late)
    (arbiter.directory / "other.py").touch()
    there = [50, "import", "import", "import", "handler", None]
    assert perform("app.numbers") == there
    perform("app.change")
    assert perform("app.numbers") == there
    perform("app.children")
    assert perform("app.status") == 1


def test_a_module_of_jobs_may_set_the_state_that_they_run_in(resqued, perform):
    app = """
    import decimal, logging, os
    decimal.getcontext().prec = 50
    os.umask(0o027)
    os.environ["GIVEN"] = "import"
    logging.disable(logging.INFO)
    def dirty():
        decimal.getcontext().prec = 3
        os.umask(0)
        os.environ["GIVEN"] = "job"
        logging.disable(logging.CRITICAL)
    def look():
        mask = os.umask(0); os.umask(mask)
        return [decimal.getcontext().prec, mask, os.environ["GIVEN"], logging.root.manager.disable]
    """
    resqued("-n", 1, app=app, GIVEN="1")
    perform("app.dirty")
    assert perform("app.look") == [50, 0o027, "import", 20]


def test_variables_that_jobs_add_stay_and_are_named_once(resqued, perform):
    app = """
    import os
    def load(**settings): os.environ.update(settings)
    def look(): return [os.environ.get("SETTING"), os.environ.get("GIVEN")]
    """
    arbiter = resqued("-n", 1, app=app, GIVEN="1")
    perform("app.load", SETTING="secret", GIVEN="2")
    assert perform("app.look") == ["secret", "1"]
    perform("app.load", SETTING="secret", OTHER="x")
    arbiter.wait_for("added variables to the environment of its worker: SETTING;")
    arbiter.wait_for("added variables to the environment of its worker: OTHER;")
    assert "secret" not in arbiter.log()


def test_hooks_job_and_callbacks_share_one_context(resqued, queue, perform, tmp_path):
    config = """
    from app import seen, var
    def before_job(worker, job):
        seen(f"before {var.get('nothing')}"); var.set("hook")
    def after_job(worker, job, outcome):
        seen(f"after {var.get('nothing')}")
    """
    app = """
    import contextvars, os
    var = contextvars.ContextVar("var")
    def seen(text):
        with open(os.environ["SEEN"], "a") as file:
            file.write(text + "\\n")
    def work():
        seen(f"job {var.get('nothing')}"); var.set("job")
    def succeeded(job, connection, result):
        seen(f"callback {var.get('nothing')}"); var.set("callback")
    """
    seen = tmp_path / "seen"
    resqued("-n", 1, app=app, config=config, SEEN=str(seen))
    for _ in range(2):
        perform("app.work", on_success=Callback("app.succeeded"))
    turn = ["before nothing", "job hook", "callback job", "after callback"]
    wait_for(lambda: seen.exists() and seen.read_text().splitlines() == 2 * turn, 10, seen)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change its user")
def test_a_worker_that_cannot_be_set_right_is_replaced(resqued, perform):
    app = "import os\ndef drop(): os.setuid(65534)\ndef look(): return os.getuid()"
    arbiter = resqued("-n", 1, "-r", "app", app=app)
    first = arbiter.wait_for_workers(1)[1].pid
    perform("app.drop")
    arbiter.wait_for("what cannot be set back: user .*; the worker is replaced")
    wait_for(lambda: arbiter.workers() and arbiter.wait_for_workers(1)[1].pid != first, 10)
    assert perform("app.look") == 0


def test_jobs_that_leave_descriptors_open_do_not_starve_the_next(resqued, perform):
    app = """
    import os, resource
    kept = []
    def leak(spare):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            while True:
                kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(spare):
                os.close(kept.pop())
    def look(): return len([open("/dev/null") for _ in range(10)])
    """
    under = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh"]
    arbiter = resqued("-n", 1, "-r", "app", app=app, under=under)
    for spare in (0, 1, 5):
        perform("app.leak", spare)
        assert [perform("app.look") for _ in range(3)] == [10] * 3
    arbiter.wait_for(r"descriptors \(nearly all are in use\); the worker is replaced", times=3)


def test_after_a_job_that_took_all_signals_the_worker_still_obeys(resqued, perform):
    arbiter = resqued("-n", 1, "-r", "app", app=APP)
    perform("app.own_handlers")
    perform("app.ignore_children")
    worker = arbiter.wait_for_workers(1)[1].pid
    arbiter.signal("TERM", pid=worker)
    wait_for(lambda: arbiter.workers() and arbiter.wait_for_workers(1)[1].pid != worker, 10)
