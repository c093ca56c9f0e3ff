"""`--check` knows what a start would be refused for, in time, and starts nothing."""

from __future__ import annotations

import time

import pytest

from harness.command import run

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
    assert code != 0
    assert time.monotonic() - began < 40
    if how == "an import that swallows":
        assert "app.py" in err  # its stack
    else:
        assert code == 78
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
    assert "refuses us" in err
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
