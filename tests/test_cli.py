"""The command as it is typed, wrongly for the most part: what it says, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.command import COMMAND, environment, run
from harness.waiting import scaled
from resqued import __version__


@pytest.fixture
def folder(tmp_path):
    """A working directory with an application in it."""
    (tmp_path / "parcels.py").write_text("print('loaded', flush=True)\n")
    return tmp_path


def told(error: str) -> str:
    """What was said of an error, which is no traceback."""
    assert "Traceback" not in error
    assert error.startswith("resqued: error: "), error
    return error


WRONG = [
    # arguments, exit status, what is said
    (["--wrokers", "3"], 64, "no such option --wrokers; did you mean --workers?"),
    (["-n"], 64, "requires an argument"),
    (["-n", "x"], 64, "--workers: 'x' is not a number of workers; write 4, or auto"),
    (["high", "low"], 64, "queues are named so: --queue high --queue low"),
    (["--queue", "low=200%"], 64, "--queue: queue 'low' has share 200%; a share is between"),
    (["--queue", "a", "--queue", "a=2"], 64, "--queue: queue 'a' is named 2 times"),
    (["-n", "4", "--queue", "a=2"], 64, "worker 3 of 4 would have no queue\n  raise the share"),
    (["--queue", "*", "--queue", "*=3"], 64, "queue '*' is named 2 times"),
    (["--grace", "-1"], 64, "--grace: -1 seconds cannot be; write 0 or more"),
    (["-v", "-q"], 64, "--quiet: it cannot be both quiet and verbose"),
    (["--json"], 64, "--json goes with --status, --print-config, --list-hooks or --list-plugins"),
    (["--list-hooks=after_frok"], 64, "there is no hook 'after_frok'. Did you mean 'after_fork'?"),
    (["-w", "rq.SpawnWorker"], 64, "rq.Worker forks a process for each job"),
    (["--redis", "redis://:hush%2fhush@h:port"], 64, "--redis: its port is not a number"),
    (["redis://:hush@h"], 64, "redis://:***@h"),
    (["-c", "nowhere.py"], 78, "nowhere.py: there is no such file"),
    (["-p", "nowhere"], 78, "no plugin 'nowhere' (asked for by -p nowhere)."),
    (["-p", "./broken.py"], 78, "ZeroDivisionError: division by zero\n  at broken.py:1: 1 / 0"),
    (["--log-file", "no/such/folder/log"], 73, "log"),
    (["--pid", "no/such/folder/pid"], 73, "pid file"),
    (["--check", "--log-file", "no/such/folder/log"], 73, "there is no folder"),
    (["--check", "-r", "nowhere"], 78, "the import of 'nowhere' failed: ModuleNotFoundError"),
    (["--check", "-r", "leaves"], 78, "SystemExit: enough (leaves.py:2)"),
    (["--check", "-r", "leaves", "-r", "broken"], 78, "the import of 'broken' failed"),
    (["--check", "--queue-class", "nowhere.Queue"], 78, "nowhere.Queue"),
]


@pytest.mark.parametrize(("arguments", "status", "what"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_command_says_what_is_wrong_and_the_remedy(folder, arguments, status, what):
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit('enough')\n")
    code, _, error = run(*arguments, cwd=folder)
    assert what in error
    assert "Traceback" not in error
    assert "hush" not in error
    assert code == status


def test_the_status_of_no_arbiter_says_how_to_name_one(folder):
    """In a PID namespace of its own: on this machine others may run."""
    alone = ("unshare", "-rpf", "--kill-child", "--mount-proc")
    code, _, error = run("--status", cwd=folder, under=alone)
    assert "--pid" in error
    assert code == 69


def test_a_wrong_file_flags_and_variables_are_told_together(folder):
    (folder / "resqued.conf.py").write_text("workrs = 4\nqueues = {'low': '10 %%'}\n")
    code, _, error = run("--grace", "x", cwd=folder, RESQUED_MAX_JOBS="many")
    assert told(error).splitlines() == [
        "resqued: error: resqued.conf.py:2: queues: queue 'low' has share '10 %%';"
        " write 20, 10% or all; 20/fleet is at most 20 jobs at once on all hosts",
        "resqued: error: --grace: 'x' is not a duration; write seconds, or 15m, 2h, 1d",
        "resqued: error: RESQUED_MAX_JOBS: 'many' is not a whole number",
        "resqued: error: resqued.conf.py:1: unknown setting workrs; did you mean workers?",
    ]
    assert code == 64


def test_a_config_file_that_everybody_may_write_to(folder):
    (folder / "resqued.conf.py").touch()
    (folder / "resqued.conf.py").chmod(0o666)
    code, _, error = run("--check", cwd=folder)
    assert "everybody may write to it (mode 666), and resqued would run it" in told(error)
    assert code == 77


def test_a_config_file_that_may_not_be_read(folder):
    (folder / "resqued.conf.py").touch(0o000)
    under = ()
    if os.geteuid() == 0:  # root may read everything, unless it lacks these capabilities
        under = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    code, _, error = run("--check", cwd=folder, under=under)
    assert "it may not be read by" in told(error)
    assert code == 77


def test_tracebacks_are_for_those_who_ask(folder):
    (folder / "resqued.conf.py").write_text("def f(): 1 / 0\nf()\n")
    code, _, error = run("-v", cwd=folder)
    assert 'resqued.conf.py", line 1, in f' in error
    assert error.endswith(
        "resqued: error: resqued.conf.py:1: ZeroDivisionError: division by zero\n"
    )
    assert code == 78


def test_check_prints_the_plan(folder):
    queues = ["--queue", "critical", "--queue", "high=20", "--queue", "low=10%", "--queue", "*"]
    code, output, error = run("--check", "-n", "32", *queues, "-r", "parcels", cwd=folder)
    assert code == 0
    assert [line for line in error.splitlines() if "warning: redis " not in line] == []
    assert output.splitlines()[0] == "loaded"
    assert output.splitlines()[-9:] == [
        "",
        "critical: 32 of 32",
        "high=20: 20 of 32",
        "low=10%: 3 of 32 (3.2)",
        "*: 32 of 32",
        "",
        "workers 1-3: critical,high,low,*",
        "workers 4-20: critical,high,*",
        "workers 21-32: critical,*",
    ]


def test_check_shows_no_password(folder):
    _, output, _ = run("--check", "--redis", "redis://me:hush@h/1", cwd=folder)
    assert "redis://me:***@h/1" in output
    assert "hush" not in output


def test_a_working_directory_is_where_modules_and_plugins_are_found(folder):
    (folder / "plugs.py").write_text(
        "from resqued import hookimpl\n@hookimpl\ndef tick(now): ...\n"
    )
    (folder / "src").mkdir()
    (folder / "src" / "deep.py").touch()
    code, output, _ = run("--check", "-p", "plugs", "--path", "src", "-r", "deep", cwd=folder)
    assert "plugins: plugs, " in output
    assert code == 0


def test_help_version_and_listings_work_when_a_plugin_does_not(folder):
    (folder / "resqued.conf.py").write_text("plugins = ['nowhere']\n1 / 0\n")
    code, output, _ = run("--version", cwd=folder)
    assert (code, output) == (0, f"resqued {__version__}\n")
    for flag in ("--help", "--list-hooks", "--list-plugins"):
        code, output, error = run(flag, "-p", "nowhere", cwd=folder)
        assert code == 0
        assert output
        assert "resqued: warning: resqued.conf.py:2: ZeroDivisionError" in error
        assert "resqued: warning: no plugin 'nowhere'" in error


def test_help_shows_the_options_of_plugins(folder):
    (folder / "plugs.py").write_text(
        "from resqued import hookimpl\n"
        "@hookimpl\n"
        "def add_options(options):\n"
        "    options.add('--plugs-size', default=3, help='How many there are.')\n"
    )
    _, output, _ = run("--help", "-p", "plugs", cwd=folder)
    assert re.search(r"Of plugins:\n +--plugs-size N +How many there are. \[3\]", output)


def test_the_listings_for_machines(folder):
    _, output, _ = run("--list-plugins", "--json", cwd=folder)
    assert "shares" in {plugin["name"] for plugin in json.loads(output)}
    _, output, _ = run("--list-hooks", "--json", cwd=folder)
    assert "after_fork" in {hook["name"] for hook in json.loads(output)}


def test_signals_for_the_loop_do_not_end_a_start_that_has_no_loop_yet(folder):
    os.mkfifo(folder / "gate")
    conf = "print('here', flush=True)\nopen('gate').read()\n1 / 0\n"
    (folder / "resqued.conf.py").write_text(conf)
    process = subprocess.Popen(
        [COMMAND], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"here\n"
    for signum in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        process.send_signal(signum)
    (folder / "gate").write_text("")
    _, error = process.communicate(timeout=scaled(30))
    assert b"ZeroDivisionError" in error
    assert process.returncode == 78


def test_a_new_image_that_is_refused_says_so_in_the_log_of_its_predecessor(folder):
    (folder / "resqued.conf.py").write_text("1 / 0\n")
    handover = os.memfd_create("handover")
    with (folder / "log").open("a") as log:
        os.write(handover, json.dumps({"log": log.fileno()}).encode())
        done = subprocess.run(
            [COMMAND, "-D"],
            cwd=folder,
            env=environment(RESQUED_HANDOVER=str(handover)),
            pass_fds=[handover, log.fileno()],
            capture_output=True,
            timeout=scaled(30),
        )
    os.close(handover)
    assert done.returncode == 78
    assert "ZeroDivisionError: division by zero" in (folder / "log").read_text()


def test_process_1_does_not_go_into_the_background(folder):
    script = "import os, sys; os.getpid = lambda: 1; from resqued.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "-D"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert "this is process 1 of a container" in told(done.stderr)
    assert done.returncode == 64


def test_the_version_is_told_without_importing_what_a_start_needs(folder):
    script = (
        "import sys; sys.argv[1:] = ['--version']; from resqued.cli import main; main();"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    modules = set(done.stdout.split())
    assert not modules & {"rq", "redis", "loguru", "asyncio", "resqued.arbiter", "setproctitle"}


def test_loading_a_configuration_imports_neither_rq_nor_redis(folder):
    (folder / "resqued.conf.py").write_text("queues = {'a': 1}\n")
    script = (
        "import sys; from resqued.settings.command_line import CommandLine;"
        " from resqued.settings.loader import Loader; Loader(CommandLine(), {}, '.').load();"
        "import resqued.arbiter.arbiter; print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert done.returncode == 0, done.stderr
    assert not {"rq", "redis"} & set(done.stdout.split())


def test_the_working_directory_keeps_the_name_of_its_symlink(folder):
    current = folder / "current"
    (folder / "release").mkdir()
    current.symlink_to(folder / "release")
    (folder / "release" / "resqued.conf.py").touch()
    code, output, _ = run("--check", cwd=current, PWD=str(current))
    assert f"config file: {current}/resqued.conf.py" in output
    assert code == 0
    assert Path(current).is_symlink()
