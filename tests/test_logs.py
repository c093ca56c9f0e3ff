"""The log: its lines, its one descriptor, what it survives. Each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.waiting import scaled, wait_for, wait_for_exit
from resqued.logs.outlet import Outlet
from resqued.logs.redaction import redact

PREAMBLE = """
import logging, os, signal, sys, time, warnings
from loguru import logger
from resqued import logs
from resqued.config import Config
"""
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ([A-Z]+) +(.*)")


@pytest.fixture
def say(tmp_path):
    """Run a script that logs; gives (exit status, standard output, standard error)."""

    def run(script: str, *, under: str = "", **options):
        (tmp_path / "script.py").write_text(PREAMBLE + textwrap.dedent(script))
        command = [sys.executable, "-W", "error", "script.py"]
        if under:
            command = ["sh", "-c", f"{under}; exec {sys.executable} script.py"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=scaled(30), **options
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def background(tmp_path):
    """Start a script that logs, and give the process; it is killed at the end."""
    started = []

    def run(script: str, **options):
        (tmp_path / "script.py").write_text(PREAMBLE + textwrap.dedent(script))
        process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def test_a_line_is_time_level_speaker_and_fact(say):
    code, out, err = say("""
        logs.set_up(Config(), "worker=3 gen=1 pid=812")
        logger.info("took job=a1 queue=high")
        logger.debug("not shown")
        logger.bind(seconds=2).warning("slow")
        logs.set_who("arbiter")
        logger.error("two\\nlines \\x1b[31m")
    """)
    assert (code, out) == (0, "")
    assert [line[24:] for line in err.splitlines()] == [
        "INFO  worker=3 gen=1 pid=812 took job=a1 queue=high",
        "WARNING worker=3 gen=1 pid=812 slow seconds=2",
        "ERROR arbiter two",
        "",
    ]
    assert err.splitlines()[3] == "    lines \\x1b[31m"
    assert LINE.fullmatch(err.splitlines()[0])


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_without_an_event_names_none(say, style):
    _, _, err = say(f"""
        logs.set_up(Config(verbose=True, log_format="{style}"), "arbiter")
        logs.debug("leaving")
        logs.at("DEBUG", "worked", None, seconds=2)
    """)
    assert "leaving" in err
    assert "worked" in err
    assert "event" not in err


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ("verbose=True", ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ("", ["INFO", "WARNING", "ERROR"]),
        ("quiet=True", ["WARNING", "ERROR"]),
    ],
)
def test_verbose_and_quiet(say, settings, shown):
    _, _, err = say(f"""
        logs.set_up(Config({settings}), "arbiter")
        for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
            logger.log(level, "said")
    """)
    assert [LINE.fullmatch(line)[1] for line in err.splitlines()] == shown


def test_json_has_one_object_a_line(say):
    _, _, err = say("""
        logs.set_up(Config(log_format="json"), "worker=3 gen=1 pid=812")
        try:
            1 / 0
        except ZeroDivisionError:
            logger.exception("failed job=a1")
        logs.set_who("arbiter")
        logger.bind(url="redis://u:pw1@h").info("\\ud800 caf\\u00e9")
    """)
    first, second = map(json.loads, err.splitlines())
    assert (first["level"], first["worker"], first["gen"], first["pid"]) == ("ERROR", 3, 1, 812)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert first["message"] == "failed job=a1"
    assert first["traceback"].endswith("ZeroDivisionError: division by zero")
    assert second["process"] == "arbiter"
    assert second["url"] == "redis://u:***@h"
    assert second["message"] == "\\ud800 café"


def test_a_traceback_stays_together_and_shows_no_values(say, tmp_path):
    say("""
        logs.set_up(Config(log_file="log"), "arbiter")
        def connect(password):
            raise OSError("cannot reach redis://u:pw1@h/0")
        try:
            connect("pw2")
        except OSError:
            logger.exception("connecting")
    """)
    text = (tmp_path / "log").read_text()
    lines = text.splitlines()
    assert LINE.fullmatch(lines[0])[2] == "arbiter connecting"
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-1] == "    OSError: cannot reach redis://u:***@h/0"
    assert "pw1" not in text
    assert text.count("pw2") == 1  # in the source line that called, not as a value


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://user:pass@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:pass@host", "redis://:***@host"),
        ("rediss://u:p@ss@host and redis://a:b@c", "rediss://u:***@host and redis://a:***@c"),
        ("unix://u:pw@/run/redis.sock?db=1", "unix://u:***@/run/redis.sock?db=1"),
        ("redis://host/0?password=pw&x=1", "redis://host/0?password=***&x=1"),
        ("{'host': 'h', 'password': 'pw'}", "{'host': 'h', 'password': '***'}"),
        ("Redis(password='pw', db=0)", "Redis(password='***', db=0)"),
        ("redis://localhost:6379/0 is down", "redis://localhost:6379/0 is down"),
        ("mail a@b, see http://x:80/y", "mail a@b, see http://x:80/y"),
        ("", ""),
    ],
)
def test_passwords_are_taken_out(text, clean):
    assert redact(text) == clean
    assert redact(clean) == clean


def test_standard_logging_and_warnings_come_along_and_rq_is_calm(say):
    _, _, err = say(
        """
        logs.set_up(Config(), "arbiter")
        import rq.worker.base
        logging.getLogger("rq.worker").info("default: job OK")
        logging.getLogger("rq.worker").warning("job %s gone", "a1")
        logging.getLogger("theirs").info("not shown")
        logging.getLogger("theirs").error("said %d", "wrong")
        logging.getLogger("theirs").critical("last", exc_info=OSError("x"))
        warnings.warn("old way", UserWarning)
        """,
        under="true",
    )
    assert [line[24:] for line in err.splitlines() if LINE.fullmatch(line)] == [
        "WARNING arbiter rq.worker: job a1 gone",
        "ERROR arbiter theirs: said %d ('wrong',)",
        "CRITICAL arbiter theirs: last",
        f"WARNING arbiter UserWarning: old way ({err.rsplit('(', 1)[1].strip()}",
    ]
    assert "    OSError: x\n" in err


def test_an_app_that_configures_logging_gets_what_it_configured(say):
    _, _, err = say("""
        logs.set_up(Config(log_file="log"), "arbiter")
        logging.getLogger("configured.later").warning("ours")
        logging.basicConfig(level="INFO", format="%(name)s says %(message)s")
        logging.getLogger("theirs").info("hello")
        logging.getLogger("rq.worker").warning("trouble")
        with open("log") as log: print(len(log.readlines()), file=sys.stderr)
    """)
    assert err == "theirs says hello\n2\n"


def test_rq_sets_up_no_handlers_of_its_own(say):
    code, out, _ = say("""
        logs.set_up(Config(), "arbiter")
        from rq.logutils import setup_loghandlers
        setup_loghandlers("INFO")
        print(logging.getLogger("rq.worker").handlers)
    """)
    assert (code, out) == (0, "[]\n")


def test_what_nobody_caught_is_in_the_log(say):
    code, _, err = say("""
        logs.set_up(Config(), "arbiter")
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="metrics")
        thread.start()
        thread.join()
        raise OSError("redis://u:pw1@h")
    """)
    assert code == 1
    assert "ERROR arbiter thread 'metrics' stopped by an error\n" in err
    assert "CRITICAL arbiter stopped by an uncaught exception\n" in err
    assert "    OSError: redis://u:***@h\n" in err


def test_reopen_follows_all_three_files_inside_a_signal_handler(background, tmp_path):
    process = background("""
        signal.signal(signal.SIGUSR1, lambda *a: logs.reopen())
        config = Config(log_file="log", stdout_path="out", stderr_path="err")
        logs.set_up(config, "arbiter")
        fd = logs.fds()["log"]
        while True:
            logger.info("line")
            print("out", flush=True)
            print("err", file=sys.stderr, flush=True)
            assert logs.fds() == {"log": fd}
            time.sleep(0.001)
    """)
    names = ("log", "out", "err")
    wait_for(lambda: all((tmp_path / name).exists() for name in names), 10, "the files")
    for name in names:
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    process.send_signal(signal.SIGUSR1)
    for name in names:
        wait_for(lambda name=name: (tmp_path / name).exists(), 10, f"a new {name}")
        wait_for(lambda name=name: (tmp_path / name).stat().st_size, 10, f"lines in {name}")
    assert process.poll() is None


def test_a_path_that_cannot_be_reopened_keeps_its_file_and_is_told_once(say, tmp_path):
    code, _, err = say("""
        os.mkdir("logs")
        logs.set_up(Config(log_file="logs/log"), "arbiter")
        os.rename("logs", "away")
        logs.reopen()
        logger.info("one")
        logger.info("two")
    """)
    assert (code, err) == (0, "")
    lines = (tmp_path / "away/log").read_text().splitlines()
    assert [line[24:] for line in lines] == [
        "WARNING arbiter log 'logs/log' cannot be reopened: No such file or directory",
        "INFO  arbiter one",
        "INFO  arbiter two",
    ]


@pytest.mark.parametrize("setting", ["log_file", "stdout_path", "stderr_path"])
def test_a_log_that_cannot_be_written_is_an_error_with_code_73(say, setting):
    code, out, _ = say(f"""
        try:
            logs.set_up(Config({setting}="nowhere/log"), "arbiter")
        except logs.LogError as error:
            print(error)
            sys.exit(error.exit_code)
    """)
    assert code == 73
    assert out.startswith("log 'nowhere/log' cannot be written: No such file or directory;")


def test_a_reload_may_change_where_the_log_goes(say, tmp_path):
    _, _, err = say("""
        logs.set_up(Config(), "arbiter")
        logger.info("first")
        for path in ("one", "two", "two"):
            logs.set_up(Config(log_file=path), "arbiter", logs.fds()["log"])
            logger.info(path)
            assert logs.fds()["log"] > 2
        try:
            logs.set_up(Config(log_file="nowhere/log"), "arbiter", logs.fds()["log"])
        except logs.LogError:
            logger.info("stays")
        logs.set_up(Config(), "arbiter", logs.fds()["log"])
        logger.info("last")
        assert len(os.listdir("/proc/self/fd")) < 8, os.listdir("/proc/self/fd")
    """)
    assert [line[24:] for line in err.splitlines()] == ["INFO  arbiter first", "INFO  arbiter last"]
    assert (tmp_path / "one").read_text().count("one") == 1
    assert [line[24:] for line in (tmp_path / "two").read_text().splitlines()] == [
        "INFO  arbiter two",
        "INFO  arbiter two",
        "INFO  arbiter stays",
    ]


def test_a_full_disk_loses_lines_and_says_how_many(say, tmp_path):
    code, _, err = say("""
        import resource
        logs.set_up(Config(log_file="log"), "arbiter")
        logger.info("before")
        size = os.path.getsize("log")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
        logger.info("cut in the middle")
        logger.info("lost")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        logger.info("after")
        logger.info("and again")
    """)
    assert (code, err) == (0, "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [LINE.fullmatch(line)[2] for line in lines if LINE.fullmatch(line)] == [
        "arbiter before",
        "arbiter 2 log lines lost: they could not be written",
        "arbiter after",
        "arbiter and again",
    ]


def test_a_reader_that_went_away_stops_nobody(background):
    process = background(
        """
        logs.set_up(Config(), "arbiter")
        sys.stdin.readline()
        for _ in range(3):
            logger.info("nobody reads this")
        print("alive", flush=True)
        """,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stderr.close()
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "alive\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_stands_still_stops_nobody(background, kind):
    if kind == "pipe":
        reader, writer = os.pipe()
        read = os.read
    else:
        one, two = socket.socketpair()
        reader, writer = one.detach(), two.detach()
        read = os.read
    process = background(
        """
        logs.set_up(Config(), "arbiter")
        began = time.monotonic()
        for number in range(5000):
            logger.info(f"line {number} " + "x" * 200)
        print(time.monotonic() - began, os.get_blocking(2), flush=True)
        sys.stdin.readline()
        logger.info("the end")
        """,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    )
    os.close(writer)
    seconds, blocking = process.stdout.readline().split()
    assert float(seconds) < scaled(10)
    assert blocking == "True"  # what is shared with the parent process was left as it was
    os.set_blocking(reader, False)
    data = b""
    while True:
        try:
            data += read(reader, 65536)
        except BlockingIOError:
            break
    process.stdin.write("go\n")
    process.stdin.flush()
    assert wait_for_exit(process, 10) == 0
    while chunk := read(reader, 65536):
        data += chunk
    os.close(reader)
    assert re.search(rb"\d+ log lines lost: they could not be written\n.* the end\n$", data)


def test_lines_of_many_processes_stay_whole(say, tmp_path):
    say("""
        logs.set_up(Config(log_file="log"), "arbiter")
        for number in range(8):
            if os.fork() == 0:
                logs.set_who(f"worker={number}")
                for _ in range(200):
                    logger.info("y" * 3000 + " end")
                os._exit(0)
        for _ in range(8):
            os.wait()
    """)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1600
    assert all(re.fullmatch(r"worker=\d y{3000} end", LINE.fullmatch(line)[2]) for line in lines)


def test_a_timeout_that_hits_a_log_call_breaks_no_later_one(say, tmp_path):
    """RQ raises a job's timeout in a signal handler: it may come anywhere inside loguru."""
    code, out, err = say("""
        logs.set_up(Config(log_file="log"), "worker=1")
        class JobTimeoutException(Exception): pass
        raised = 0
        def expire(signum, frame):
            raise JobTimeoutException
        signal.signal(signal.SIGALRM, expire)
        theirs = logging.getLogger("theirs")
        for turn in range(800):
            try:
                # again after a second: logging itself swallows one that hits its processName
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + turn % 100 * 0.000004, 1)
                while True:
                    logger.info("in a job")
                    theirs.warning("in a job")
            except JobTimeoutException:
                raised += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        logger.info("still here")
        theirs.warning("they too")
        print(raised)
    """)
    assert (code, out, err) == (0, "800\n", "")
    last = (tmp_path / "log").read_text().splitlines()[-2:]
    assert [line.rpartition("worker=1 ")[2] for line in last] == ["still here", "theirs: they too"]


def test_logging_inside_a_signal_handler_while_a_line_is_written(say, tmp_path):
    code, out, err = say("""
        logs.set_up(Config(log_file="log"), "worker=1")
        count = 0
        def told(signum, frame):
            global count
            count += 1
            logger.info("from the handler")
        signal.signal(signal.SIGALRM, told)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
        while count < 300:
            logger.info("from the loop")
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(count)
    """)
    assert (code, err) == (0, "")
    assert (tmp_path / "log").read_text().count("from the handler") == int(out)


def test_journald_gets_levels_and_no_time(background):
    one, two = socket.socketpair()
    status = os.fstat(two.fileno())
    process = background(
        """
        logs.set_up(Config(), "arbiter")
        logger.info("one")
        logger.error("two\\nlines")
        """,
        stderr=two.fileno(),
        env={**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
    )
    two.close()
    assert wait_for_exit(process, 10) == 0
    with one:
        assert one.recv(4096) == b"<6>arbiter one\n<3>arbiter two\n<3>    lines\n"


def test_the_descriptor_is_handed_on(say, tmp_path):
    say("""
        logs.set_up(Config(log_file="log"), "arbiter")
        logger.info("before")
        fd = logs.fds()["log"]
        os.set_inheritable(fd, True)
        code = (
            "from loguru import logger; from resqued import logs;"
            "from resqued.config import Config;"
            f"logs.set_up(Config(log_file='log'), 'arbiter', {fd});"
            f"assert logs.fds() == {{'log': {fd}}}; logger.info('after')"
        )
        os.execv(sys.executable, [sys.executable, "-c", code])
    """)
    assert [line[24:] for line in (tmp_path / "log").read_text().splitlines()] == [
        "INFO  arbiter before",
        "INFO  arbiter after",
    ]


def test_a_fifo_that_nobody_reads_is_an_error_not_a_wait(say, tmp_path):
    os.mkfifo(tmp_path / "log")
    code, _, err = say('logs.set_up(Config(log_file="log"), "arbiter")')
    assert code == 1
    assert "log 'log' cannot be written" in err


def test_an_outlet_on_a_closed_descriptor_loses_its_lines():
    read, write = os.pipe()
    os.close(read)
    outlet = Outlet(write)
    assert not outlet.write(b"x\n")
    assert outlet.lost == 1
    os.close(write)
    assert not outlet.write(b"x\n")
    assert outlet.lost == 2


def test_workers_follow_a_truncated_log(say, tmp_path):
    say("""
        logs.set_up(Config(log_file="log"), "arbiter")
        logger.info("before")
        os.truncate("log", 0)
        logger.info("after")
    """)
    text = Path(tmp_path / "log").read_text()
    assert text.endswith("after\n")
    assert "\0" not in text
