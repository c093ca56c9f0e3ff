"""What plugins do before the loop: bounded in time, told with their names, not in the answer."""

from __future__ import annotations

import json
import time

import pytest

from harness.command import run
from harness.waiting import scaled

NOWHERE = "redis://127.0.0.1:1"
HOOKS = ["add_options(options)", "configure(config)", "choose_queues(number)"]


def config_file(folder, text):
    (folder / "resqued.conf.py").write_text(text)


@pytest.mark.parametrize(
    ("hook", "command"),
    [
        ("add_options(options)", ["--check"]),
        ("configure(config)", []),
        ("choose_queues(number)", []),
        ("choose_queues(number)", ["--check"]),
    ],
)
def test_one_that_hangs_fails_the_start_with_its_name(tmp_path, hook, command):
    config_file(tmp_path, f"import time\n\ndef {hook}:\n    time.sleep(60)\n")
    began = time.monotonic()
    code, _, err = run(*command, "--redis", NOWHERE, "-n", "4", cwd=tmp_path, timeout=50)
    assert code == 78
    name = hook.partition("(")[0]
    assert (
        f"resqued: error: hook {name}: plugin 'resqued.conf.py' raised HookTimeout: took longer"
        " than 10 s (resqued.conf.py:4)"
    ) in err
    assert time.monotonic() - began < scaled(25)


@pytest.mark.parametrize("command", ["--check", "--list-plugins"])
def test_one_that_swallows_its_limit_does_not_hold_up_a_command(tmp_path, command):
    text = """
import time

def add_options(options):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
    config_file(tmp_path, text)
    code, _, err = run(command, "--redis", NOWHERE, cwd=tmp_path, timeout=50)
    assert code == 78
    assert "error: hook add_options: plugin 'resqued.conf.py' cannot be ended" in err


@pytest.mark.parametrize("hook", HOOKS)
def test_a_slow_one_is_named(tmp_path, hook):
    config_file(tmp_path, f"import time\n\ndef {hook}:\n    time.sleep(1.1)\n")
    code, _, err = run("--check", "--redis", NOWHERE, cwd=tmp_path)
    assert code == 0
    assert f"hook {hook.partition('(')[0]}: plugin 'resqued.conf.py' took 1.1 s" in err


def test_the_answers_for_all_workers_are_bounded_together(tmp_path):
    text = "import time\n\ndef choose_queues(number):\n    time.sleep(4)\n    return ['a']\n"
    config_file(tmp_path, text)
    code, _, err = run("--check", "--redis", NOWHERE, "-n", "32", cwd=tmp_path, timeout=50)
    assert code == 78
    assert "queues: choose_queues took longer than 10 s for 3 of 32 workers; plugin" in err


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        ("add_options(options): 1 / 0", "raised ZeroDivisionError: division by zero"),
        ("configure(config): 1 / 0", "raised ZeroDivisionError: division by zero"),
        ("choose_queues(number): 1 / 0", "raised ZeroDivisionError: division by zero"),
        ("choose_queues(number): return ['a', 'a']", "returned the queue 'a' twice"),
        ("choose_queues(number): return 'a'", "returned 'a', but choose_queues wants a list"),
        ("fork_server_env(env): exit(0)", "raised SystemExit: 0"),
        ("before_load(generation): exit(0)", "raised SystemExit: 0"),
        ("app_loaded(generation): exit(0)", "raised SystemExit: 0"),
    ],
)
def test_the_check_fails_when_a_hook_does(tmp_path, hook, what):
    config_file(tmp_path, f"def {hook}\n")
    code, _, err = run("--check", "--redis", NOWHERE, cwd=tmp_path)
    name = hook.partition("(")[0]
    assert f"resqued: error: hook {name}: plugin 'resqued.conf.py' {what}" in err
    assert code == 78


def test_an_empty_plan_names_the_plugin_that_has_answered(tmp_path):
    text = "def choose_queues(number): return ['a'] if number < 3 else []\n"
    config_file(tmp_path, text)
    code, _, err = run("--check", "--redis", NOWHERE, "-n", "4", cwd=tmp_path)
    assert code == 78
    assert (
        "worker 3 of 4 would have no queue: plugin 'resqued.conf.py' has answered choose_queues"
        " with []\n  it may return None for workers that it does not decide about"
    ) in err


def test_a_reload_with_an_empty_plan_is_refused_with_the_plugins_name(resqued):
    config = """
    from pathlib import Path

    def choose_queues(number):
        return [] if Path("empty").exists() else ["a"]
    """
    arbiter = resqued(config=config, expect_errors="reload failed")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "empty").touch()
    arbiter.signal("HUP")
    arbiter.wait_for(
        r"reload failed.*plugin 'resqued.conf.py' has answered choose_queues with \[\]"
    )


PRINTS = """
import atexit, ctypes, os, subprocess, sys
from resqued import hookimpl

def say(where):
    print("printed", where)
    os.write(1, f"written {where}\\n".encode())
    subprocess.run(["echo", "said", where])
    ctypes.CDLL(None).puts(f"put {where}".encode())
    ctypes.CDLL(None).fflush(None)

say("at import")
atexit.register(print, "printed at exit")
sys.stdout = sys.stderr

@hookimpl
def add_options(options):
    say("in add_options")
    options.add("--chatty-level", default=1)
"""


@pytest.mark.parametrize(
    "command",
    [
        ["--list-plugins", "--json"],
        ["--list-hooks", "--json"],
        ["--list-hooks=tick", "--json"],
        ["--print-config", "--json"],
        ["--version"],
        ["--help"],
        ["--status", "--json", "--chatty-level", "1"],
    ],
    ids=lambda command: command[0],
)
def test_what_plugins_print_is_not_in_the_answer(tmp_path, command):
    (tmp_path / "chatty.py").write_text(PRINTS)
    (tmp_path / "pid").write_text("1\n")
    code, out, err = run("-p", "chatty", *command, "--pid", "pid", cwd=tmp_path)
    if "--json" in command and "--status" not in command:
        assert code == 0
        assert json.loads(out)
    for how in ("printed", "written", "said", "put"):
        assert f"{how} at import" not in out
        assert f"{how} in add_options" not in out
        assert command == ["--version"] or f"{how} at import" in err
    assert "at exit" not in out


def test_a_plugin_that_forks_does_not_double_the_answer(tmp_path):
    (tmp_path / "forks.py").write_text("import os\nos.fork()\n")
    code, out, _ = run("-p", "./forks.py", "--list-plugins", "--json", cwd=tmp_path)
    assert code == 0
    assert any(each["name"] == "forks" for each in json.loads(out))
