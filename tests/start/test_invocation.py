"""Deployed by symbolic link, with options of the interpreter, from other programs: what runs."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rq.job import Job

import resqued
import resqued_plugins
from harness.command import COMMAND, environment
from harness.waiting import scaled, wait_for
from resqued.invocation import explain_exec_error

FACTS = """
import os, sys
from pathlib import Path

def release():
    return Path(__file__).resolve().parent.name

def executable():
    return sys.executable

def facts():
    return [sys.flags.optimize, sys.flags.dev_mode, sys._xoptions.get("case"), sys.flags.isolated]

def spawned():
    import multiprocessing
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=os.getpid)
    child.start()
    child.join(30)
    return child.exitcode
"""


@pytest.fixture
def ask(queue):
    """`ask("app.release")`: what that function says in a worker."""

    def ask(function: str):
        job = queue().enqueue(function)

        def over() -> bool:
            return job.get_status(refresh=True) in ("finished", "failed")

        wait_for(over, 30, f"{function} to have run")
        assert job.get_status() == "finished", Job.fetch(job.id, job.connection).latest_result()
        return job.return_value()

    return ask


def make_release(folder: Path) -> Path:
    """A release with an application and a virtual environment of its own."""
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(FACTS)
    base = Path(sys._base_executable).resolve()
    subprocess.run([base, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # what `pip install` would bring, by a link; a path that disappears with the release
    site.rmdir()
    site.symlink_to(ours)
    script = folder / "venv/bin/resqued"
    text = Path(COMMAND).read_text().splitlines()
    script.write_text("\n".join([f"#!{folder}/venv/bin/python", *text[1:], ""]))
    script.chmod(0o755)
    return folder


def swing(link: Path, to: Path) -> None:
    """Have the link lead elsewhere, at once."""
    fresh = link.with_suffix(".new")
    fresh.symlink_to(to)
    fresh.rename(link)


@pytest.fixture
def deployed(tmp_path, valkey, no_process_left):
    """`deployed(command)`: start it in `current`; its process, and what it has written."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, *arguments: str, cwd: Path | None = None, **env: str):
        with (tmp_path / "output").open("ab") as log:
            started.append(
                subprocess.Popen(
                    ["sh", "-c", f"cd {cwd or tmp_path} && exec {command} {' '.join(arguments)}"],
                    env=environment(RQ_REDIS_URL=valkey.url, **{"PYTHONPATH": "", **env}),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return started[-1], (tmp_path / "output").read_text

    yield start
    for process in started:
        process.terminate()
        assert process.wait(scaled(30)) == 0, (tmp_path / "output").read_text()


@pytest.mark.parametrize("how", ["script", "relative script", "python script", "python -m"])
def test_a_deploy_by_symlink_runs_the_new_release(tmp_path, deployed, ask, how):
    old, new = (make_release(tmp_path / "releases" / name) for name in ("1", "2"))
    current = tmp_path / "current"
    current.symlink_to(old)
    command = {
        "script": f"{current}/venv/bin/resqued",
        "relative script": "venv/bin/resqued",
        "python script": f"{current}/venv/bin/python -X case=1 venv/bin/resqued",
        "python -m": "venv/bin/python -m resqued",
    }[how]
    process, output = deployed(command, "-r app", cwd=current)
    assert ask("app.release") == "1"
    assert str(old) in ask("app.executable") or "current" in ask("app.executable")

    swing(current, new)
    shutil.rmtree(old)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "gen=1 retired" in output(), 40, "HUP")
    assert ask("app.release") == "2", output()
    executable = ask("app.executable")
    assert executable.startswith((str(new), str(current)))

    process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "gen=2 retired" in output(), 60, "USR2")
    assert "re-exec done" in output()
    assert ask("app.release") == "2"
    words = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert str(old).encode() not in words.replace(b"OLDPWD", b"")
    assert "ERROR" not in output(), output()


def test_options_of_the_interpreter_reach_the_jobs_and_outlive_a_re_exec(tmp_path, deployed, ask):
    (tmp_path / "app.py").write_text(FACTS)
    command = f"{sys.executable} -O -X case=1 -X dev {COMMAND}"
    process, output = deployed(command, "-r app")
    assert ask("app.facts") == [1, True, "1", 0]
    process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "gen=1 retired" in output(), 60, "USR2")
    assert ask("app.facts") == [1, True, "1", 0]


def test_an_isolated_interpreter_stays_one(tmp_path, deployed, ask):
    (tmp_path / "app.py").write_text(FACTS)
    (tmp_path / "redis.py").write_text("raise SystemExit('not to be imported')")
    deployed(f"{sys.executable} -I {COMMAND}", "-r app", PYTHONPATH=str(tmp_path))
    assert ask("app.facts") == [0, False, None, 1]


def test_a_script_that_makes_the_packages_importable_is_what_fork_servers_run(
    tmp_path, deployed, ask
):
    (tmp_path / "app.py").write_text(FACTS)
    ours = [path for path in sys.path if path.endswith("site-packages")]
    ours += [str(Path(package.__path__[0]).parent) for package in (resqued, resqued_plugins)]
    (tmp_path / "run.py").write_text(
        f"import sys\nsys.path[:0] = {ours!r}\n"
        "from resqued.cli import main\nsys.exit(main())\n"  # without a look at __name__
    )
    process, output = deployed(f"{sys._base_executable} -S {tmp_path}/run.py", "-r app")
    assert ask("app.release") == tmp_path.name
    assert ask("app.spawned") == 0  # multiprocessing runs the main module once more
    process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "gen=1 retired" in output(), 60, "USR2")
    assert ask("app.release") == tmp_path.name


def test_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "resqued", "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert done.stdout == f"resqued {resqued.__version__}\n"


@pytest.mark.parametrize("program", [[COMMAND], [sys.executable, "-m", "resqued"]])
@pytest.mark.parametrize("words", ["--help", "--version", "--list-hooks", "--status", "--check"])
def test_nothing_is_imported_from_the_working_directory_unasked(tmp_path, program, words):
    for name in ("redis", "rq", "loguru", "click", "json", "hiredis", "orjson", "uvloop", "app"):
        (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('ran-' + __name__)\n")
    done = subprocess.run(
        [*program, words],
        cwd=tmp_path,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        timeout=scaled(60),
        check=False,
    )
    assert list(tmp_path.glob("ran-*")) == [], done.stderr


def test_a_missing_interpreter_is_told_from_a_missing_script(tmp_path):
    script, error = tmp_path / "resqued", OSError(errno.ENOENT, "No such file or directory")
    assert explain_exec_error(error, str(script)) is error
    script.write_text("#!/gone/bin/python\n")
    assert "the interpreter that its first line names is missing" in str(
        explain_exec_error(error, str(script))
    )
