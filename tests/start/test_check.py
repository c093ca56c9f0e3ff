"""`--check` knows what a start would be refused for, in time, and starts nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from harness.command import COMMAND, environment, run
from harness.waiting import scaled, wait_for

NOWHERE = "redis://127.0.0.1:1"

HANGS = {
    "an import that sleeps": "import time\ntime.sleep(60)\n",
    "an import that loops": "while True: pass\n",
    "an import that swallows": (
        "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n"
        "        pass\n"
    ),
}


@pytest.mark.parametrize("how", HANGS)
def test_an_import_that_hangs_fails_at_the_boot_timeout(tmp_path, how):
    (tmp_path / "app.py").write_text(HANGS[how])
    began = time.monotonic()
    code, _, err = run(
        "-r", "app", "--check", "--boot-timeout", 1, "--redis", NOWHERE, cwd=tmp_path, timeout=50
    )
    assert code == 78
    assert time.monotonic() - began < scaled(40)
    if how == "an import that swallows":
        assert "app.py" in err  # its stack
    else:
        assert "the import of 'app' took longer than 1 s, which is the boot timeout" in err


def test_redis_is_asked_and_its_absence_is_a_warning(tmp_path, valkey):
    code, out, err = run("--check", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 0
    assert "worker 1: default" in out
    assert err.count(f"warning: redis {NOWHERE} does not answer") == 1
    code, _, err = run("--check", "--redis", valkey.url, cwd=tmp_path)
    assert (code, err) == (0, "")


def test_a_password_that_redis_refuses_is_a_warning_and_not_shown(tmp_path, valkey):
    url = valkey.url.replace("unix://", "unix://somebody:hunter2@")
    code, _, err = run("--check", RQ_REDIS_URL=url, cwd=tmp_path)
    assert code == 0
    assert "refuses access" in err
    assert "hunter2" not in err


def test_a_server_that_a_plugin_starts_is_not_missed(tmp_path):
    code, _, err = run("--check", "-p", "embedded", "--state", "state", cwd=tmp_path)
    assert (code, err) == (0, "")


def test_a_plugin_that_refuses_the_application_is_known(tmp_path):
    (tmp_path / "resqued.conf.py").write_text(
        "from resqued import ConfigError\n\n"
        "def app_loaded(generation):\n"
        "    raise ConfigError('require', f'{generation.modules} has no settings')\n"
    )
    (tmp_path / "app.py").write_text("")
    code, _, err = run("-r", "app", "--check", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 78
    assert "has no settings" in err


def test_a_running_arbiter_is_a_warning(resqued, tmp_path, valkey):
    arbiter = resqued("--pid", tmp_path / "pid")
    arbiter.wait_for_workers(1)
    code, _, err = run("--check", "--pid", "pid", "--redis", valkey.url, cwd=tmp_path)
    assert code == 0
    assert f"is held by pid {arbiter.pid}; a start would be refused now" in err


@pytest.mark.parametrize("flag", ["--log-file", "--pid", "--stdout-path"])
def test_a_folder_in_the_place_of_a_file(tmp_path, flag):
    (tmp_path / "there").mkdir()
    code, _, err = run("--check", flag, "there", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 73
    assert "it is a folder" in err


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os._exit(0)", "exit status 0"),
        ("os._exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
    ],
)
def test_an_import_that_ends_the_process_is_no_success(tmp_path, code, how):
    (tmp_path / "app.py").write_text(f"import os\n{code}\n")
    status, _, err = run("-r", "app", "--check", "--redis", NOWHERE, cwd=tmp_path)
    assert status == 78
    assert f"what is loaded has ended the process before the check was done: {how}" in err


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()\n",
        "import atexit, time\natexit.register(time.sleep, 100)\n",
    ],
)
def test_what_an_import_leaves_running_does_not_hold_it_up(tmp_path, code):
    (tmp_path / "app.py").write_text(code)
    began = time.monotonic()
    status, out, _ = run("-r", "app", "--check", "--redis", NOWHERE, cwd=tmp_path, timeout=60)
    assert status == 0
    assert "worker 1: default" in out
    assert time.monotonic() - began < scaled(30)


def test_an_import_that_forks_says_it_once(tmp_path):
    (tmp_path / "app.py").write_text("import os\nos.fork()\n")
    status, out, _ = run("-r", "app", "--check", "--redis", NOWHERE, cwd=tmp_path)
    assert status == 0
    assert out.count("worker 1: default") == 1


@pytest.mark.parametrize("flag", ["--log-file", "--pid"])
@pytest.mark.parametrize("kind", ["a long name", "a loop of links"])
def test_a_name_that_cannot_be_a_file(tmp_path, flag, kind):
    name = "x" * 300 if kind == "a long name" else "loop"
    (tmp_path / "loop").symlink_to("loop")
    code, _, err = run("--check", flag, name, "--redis", NOWHERE, cwd=tmp_path)
    assert code == 73
    assert "cannot be" in err
    assert "Traceback" not in err


def test_a_named_pipe_without_a_reader_is_told_of(tmp_path):
    os.mkfifo(tmp_path / "log")
    code, _, err = run("--check", "--log-file", "log", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 0
    assert "is a named pipe; a start is refused while it has no reader" in err
    code, _, err = run("--log-file", "log", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 73
    assert "named pipe without a reader" in err


def test_an_interrupted_check_ends_without_a_traceback(tmp_path):
    (tmp_path / "app.py").write_text("import time\nopen('here', 'w')\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [COMMAND, "-r", "app", "--check", "--redis", NOWHERE],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for((tmp_path / "here").exists, 30, "the application to be imported")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=scaled(20))[1] == b""
    assert process.returncode == 130
