"""A start as people make it: in the background, refused, with streams and files of many kinds."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness.command import COMMAND, environment, run
from harness.waiting import scaled, wait_for

NOWHERE = "redis://127.0.0.1:1"  # nobody answers there
BROKEN = "import nothere\n"


@pytest.fixture
def daemon(tmp_path, no_process_left):
    """`daemon(...)`: start one without a Redis; ended when the test is over."""

    def start(*arguments, **options):
        words = [COMMAND, "--pid", "pid", "--log-file", "log", "--redis", NOWHERE, *arguments]
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.run(
            words,
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            timeout=scaled(60),
            check=False,
            **options,
        )

    yield start
    if (tmp_path / "pid").exists():
        arbiter = psutil.Process(int((tmp_path / "pid").read_text()))
        arbiter.terminate()
        wait_for(lambda: not (tmp_path / "pid").exists(), 20, "the daemon to leave")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_daemon_comes_up_whatever_standard_streams_are_closed(daemon, tmp_path, closed):
    words = f'exec "{COMMAND}" -D --pid pid --log-file log --redis {NOWHERE} {closed}'
    done = subprocess.run(["sh", "-c", words], cwd=tmp_path, env=environment(), timeout=scaled(60))
    assert done.returncode == 0, (tmp_path / "log").read_text()
    pid = int((tmp_path / "pid").read_text())
    leads_to = {str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)}
    assert leads_to == {"/dev/null"}
    daemon("--version")  # the fixture ends it


def test_a_refused_daemon_with_closed_streams_keeps_its_exit_code(tmp_path, no_process_left):
    (tmp_path / "app.py").write_text(BROKEN)
    words = f'exec "{COMMAND}" -D -r app --log-file log --redis {NOWHERE} 1>&- 2>&-'
    done = subprocess.run(["sh", "-c", words], cwd=tmp_path, env=environment(), timeout=scaled(60))
    assert done.returncode == 78


@pytest.mark.parametrize("how", ["flag", "file"])
def test_a_daemon_keeps_no_descriptor_and_no_lock_of_its_caller(daemon, tmp_path, how):
    (tmp_path / "resqued.conf.py").write_text("daemonize = True\n" if how == "file" else "")
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    done = daemon(*(["-D"] if how == "flag" else []), pass_fds=[lock, writer])
    os.close(lock)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert select.select([reader], [], [], scaled(10))[0], "the caller's pipe does not end"
    assert os.read(reader, 1) == b""
    os.close(reader)
    again = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)


def test_a_daemon_by_its_config_file_tells_its_status(daemon, tmp_path):
    (tmp_path / "resqued.conf.py").write_text("daemonize = True\n")
    assert daemon().returncode == 0
    code, out, _ = run("--status", "--pid", "pid", cwd=tmp_path)
    assert code == 0
    assert " running, generation 1" in out
    pid = int((tmp_path / "pid").read_text())
    links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()]
    boards = {link.stat().st_ino for link in links if "-scoreboard" in str(link.readlink())}
    assert len(boards) == 1


@pytest.mark.parametrize("where", ["--log-file", "--stderr-path"])
def test_a_failed_start_says_so_on_standard_error_also_with_a_log_file(tmp_path, where):
    (tmp_path / "app.py").write_text(BROKEN)
    code, _, err = run("-r", "app", where, "log", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 78
    assert err.count("No module named 'nothere'") == 1
    assert "No module named 'nothere'" in (tmp_path / "log").read_text()


def test_a_failed_start_says_it_once_where_standard_error_is_the_log(tmp_path):
    (tmp_path / "app.py").write_text(BROKEN)
    code, _, err = run("-r", "app", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 78
    assert "resqued: error:" not in err
    assert "ERROR" in err


def test_a_second_start_says_on_standard_error_that_there_is_one(daemon, tmp_path):
    assert daemon("-D").returncode == 0
    done = daemon()
    assert done.returncode == 75
    assert b"already running" in done.stderr


def test_once_it_is_up_standard_error_is_let_go(resqued, tmp_path):
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [COMMAND, "--log-file", "log", "--stderr-path", "log", "--redis", NOWHERE],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    try:
        assert select.select([reader], [], [], scaled(30))[0], "standard error is still held open"
        assert os.read(reader, 1) == b""
    finally:
        process.terminate()
        assert process.wait(scaled(20)) == 0
        os.close(reader)


def test_a_pid_file_that_cannot_be_written_is_not_left_behind(tmp_path):
    (tmp_path / "resqued.conf.py").write_text(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
    )
    code, _, err = run("--pid", "pid", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 73
    assert "pid file" in err
    assert "File too large" in err
    assert not (tmp_path / "pid").exists()


def test_a_swept_pid_directory_is_told_of_once_a_minute(resqued, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    arbiter = resqued("--pid", folder / "pid")
    arbiter.wait_for_workers(1)
    (folder / "pid").unlink()
    folder.rmdir()
    arbiter.wait_for(r"pid file .* cannot be written again")
    time.sleep(4)  # it looks about once a second
    assert arbiter.log().count("cannot be written again") == 1
    folder.mkdir()
    arbiter.wait_for(r"pid file .*, written again")
    written = f"{arbiter.pid}\n"
    wait_for(lambda: (folder / "pid").read_text() == written, 10, "the pid to be in it")
    (folder / "pid").unlink()
    folder.rmdir()
    assert arbiter.stop("QUIT") == 0


@pytest.mark.parametrize("kind", ["fifo", "folder", "hard link"])
def test_what_is_no_pid_file_is_refused_and_left_as_it_is(tmp_path, kind):
    path = tmp_path / "pid"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "precious").write_text("kept")
        path.hardlink_to(tmp_path / "precious")
    code, _, err = run("--pid", "pid", "--redis", NOWHERE, cwd=tmp_path)
    assert code in (73, 77)
    assert "pid file" in err
    assert path.exists()
    if kind == "hard link":
        assert path.read_text() == "kept"


def test_a_dash_is_standard_error(resqued, tmp_path):
    arbiter = resqued("--log-file", "-")
    arbiter.wait_for_workers(1)
    assert not (arbiter.directory / "-").exists()
    arbiter.signal("USR1")
    mark = arbiter.mark()
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(2)
    arbiter.wait_for("worker=2", after=mark)


@pytest.mark.parametrize("flag", ["--pid", "--config", "--state"])
def test_a_dash_is_no_file_elsewhere(tmp_path, flag):
    code, _, err = run(flag, "-", cwd=tmp_path)
    assert code == 64
    assert f"{flag}: '-' is not the name of a file" in err


def test_a_fifo_is_no_config_file_and_nobody_waits_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "resqued.conf.py")
    code, _, err = run("--check", cwd=tmp_path, timeout=20)
    assert code == 78
    assert "it is not a file" in err


def test_a_terminated_start_says_nothing_of_an_error(tmp_path):
    (tmp_path / "app.py").write_text("import time\nopen('here', 'w')\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [COMMAND, "-r", "app", "--log-file", "log", "--redis", NOWHERE],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_for((tmp_path / "here").exists, 30, "the application to be imported")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=scaled(20))[1] == b""
    assert process.returncode == 0
