"""What root runs, obeys and writes to must be root's: files that others could have put there."""

from __future__ import annotations

import os

import pytest

from harness.command import run

NOWHERE = "redis://127.0.0.1:1"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def folder(tmp_path):
    """A folder with files that are wrong in no way yet."""
    (tmp_path / "alert.py").write_text(
        "from resqued import hookimpl\nopen('loaded', 'w')\n\n\n"
        "@hookimpl\ndef tick(arbiter, now):\n    pass\n"
    )
    (tmp_path / "target").write_text("")
    return tmp_path


@needs_root
@pytest.mark.parametrize("flag", ["--log-file", "--stdout-path", "--stderr-path"])
def test_a_log_file_is_not_reached_through_a_link_of_somebody_else(folder, flag):
    (folder / "log").symlink_to("target")
    os.chown(folder / "log", 12345, -1, follow_symlinks=False)
    code, _, err = run(flag, "log", "--redis", NOWHERE, "-b", cwd=folder)
    assert code == 77
    assert "it is a symbolic link that belongs to user 12345" in err
    assert "chown -h" in err
    assert (folder / "target").read_text() == ""


@needs_root
def test_check_knows_that_such_a_start_would_be_refused(folder):
    (folder / "log").symlink_to("target")
    os.chown(folder / "log", 12345, -1, follow_symlinks=False)
    code, _, err = run("--check", "--log-file", "log", "--redis", NOWHERE, cwd=folder)
    assert code == 77
    assert "it is a symbolic link that belongs to user 12345" in err


def test_a_log_file_may_be_reached_through_a_link_of_ours(resqued, tmp_path):
    (tmp_path / "log").symlink_to("target")
    arbiter = resqued("--log-file", tmp_path / "log")
    arbiter.wait_for_workers(1)
    assert " ready" in (tmp_path / "target").read_text()


def test_a_pid_file_that_others_may_write_to(folder):
    (folder / "pid").write_text("1\n")
    (folder / "pid").chmod(0o666)
    code, _, err = run("--pid", "pid", "--redis", NOWHERE, cwd=folder)
    assert code == 77
    assert "everybody may write to it" in err
    assert (folder / "pid").read_text() == "1\n"


@needs_root
def test_a_pid_file_of_somebody_else(folder):
    (folder / "pid").write_text("1\n")
    os.chown(folder / "pid", 12345, -1)
    for words in (("--check",), ()):
        code, _, err = run(*words, "--pid", "pid", "--redis", NOWHERE, cwd=folder)
        assert code == 77
        assert "it belongs to user 12345" in err
    assert (folder / "pid").read_text() == "1\n"


@pytest.mark.parametrize("name", ["./alert.py", "alert"])
def test_a_plugin_that_others_may_write_to(folder, name):
    (folder / "alert.py").chmod(0o666)
    code, _, err = run("-p", name, "--check", "--redis", NOWHERE, cwd=folder)
    assert code == 77
    assert "everybody may write to it" in err
    assert "chmod o-w" in err
    assert not (folder / "loaded").exists()


@needs_root
@pytest.mark.parametrize("name", ["./alert.py", "alert"])
@pytest.mark.parametrize("words", ["--check", "--help", "--list-plugins", "--status"])
def test_root_runs_no_plugin_of_somebody_else(folder, name, words):
    os.chown(folder / "alert.py", 12345, -1)
    run("-p", name, words, "--redis", NOWHERE, cwd=folder)
    assert not (folder / "loaded").exists()


@pytest.mark.parametrize("words", ["--check", "--burst"])
def test_a_state_directory_that_others_may_write_to(folder, words):
    (folder / "state").mkdir()
    (folder / "state").chmod(0o777)
    code, _, err = run("--state", "state", words, "--redis", NOWHERE, cwd=folder)
    assert code == 77
    assert "--state" in err
    assert "everybody may write to it" in err


@needs_root
def test_a_state_directory_of_somebody_else(folder):
    (folder / "state").mkdir()
    os.chown(folder / "state", 12345, -1)
    code, _, err = run("--check", RESQUED_STATE="state", cwd=folder)
    assert code == 77
    assert "RESQUED_STATE" in err
    assert "it belongs to user 12345" in err


@needs_root
def test_a_default_state_directory_of_somebody_else_is_not_used(folder):
    (folder / "resqued").mkdir()
    os.chown(folder / "resqued", 12345, -1)
    code, _, err = run("--check", "--redis", NOWHERE, XDG_STATE_HOME=str(folder), cwd=folder)
    assert code == 0
    assert "it belongs to user 12345" in err
