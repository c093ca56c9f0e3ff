"""The working directory is last on the path, and who meant a module there is told of it."""

from __future__ import annotations

import pytest

from harness.command import run
from harness.waiting import wait_for

NOWHERE = "redis://127.0.0.1:1"
WHERE = """
def where():
    return __file__
"""


@pytest.fixture
def installed(tmp_path):
    """A folder that stands before the working directory, with a module `twin`."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "twin.py").write_text(WHERE)
    return folder


def result_of(queue, function):
    job = queue().enqueue(function)
    wait_for(lambda: job.get_status(refresh=True) == "finished", 30, f"{function} to have run")
    return job.return_value()


def test_a_module_of_a_job_in_two_places_is_named_with_both_paths(
    resqued, queue, tmp_path, installed
):
    arbiter = resqued(PYTHONPATH=str(installed))
    (arbiter.directory / "twin.py").write_text(WHERE)
    assert result_of(queue, "twin.where") == str(installed / "twin.py")
    assert result_of(queue, "twin.where") == str(installed / "twin.py")
    told = arbiter.wait_for(r"module 'twin' is taken from (.*), and (.*) in the working directory")
    assert len(told) == 1
    assert told[0][1] == str(installed / "twin.py")
    assert told[0][2] == str(arbiter.directory / "twin.py")
    assert "--path ." in arbiter.log()


def test_a_required_module_in_two_places_is_named_with_both_paths(tmp_path, installed):
    (tmp_path / "twin.py").write_text(WHERE)
    code, _, err = run("-r", "twin", "--check", cwd=tmp_path, PYTHONPATH=str(installed))
    assert code == 0
    assert f"module 'twin' is taken from {installed}/twin.py" in err
    assert f"{tmp_path}/twin.py in the working directory is not used" in err


def test_a_module_that_is_only_here_is_nothing_to_tell(tmp_path):
    (tmp_path / "single.py").write_text(WHERE)
    code, _, err = run("-r", "single", "--check", cwd=tmp_path)
    assert (code, "is taken from" in err) == (0, False)


@pytest.mark.parametrize("path", [".", "sub"])
def test_a_path_stands_before_what_is_installed(resqued, queue, tmp_path, installed, path):
    app = "import twin\n"
    arbiter = resqued("-r", "app", "--path", path, app=app, PYTHONPATH=str(installed))
    arbiter.wait_for_workers(1)
    arbiter.directory.joinpath("sub").mkdir(exist_ok=True)
    (arbiter.directory / path / "twin.py").write_text(WHERE)
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=30)
    arbiter.wait_for("gen=1 retired", timeout=30)
    assert result_of(queue, "twin.where") == str(arbiter.directory / path / "twin.py")
    assert "is taken from" not in arbiter.log()


def test_root_that_looks_for_help_runs_nothing_of_that_directory(tmp_path):
    for name in ("redis", "rq", "pluggy", "click", "setproctitle", "colorama"):
        (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('ran-' + __name__)\n")
    for words in (["--help"], ["--list-plugins"], ["--status"], ["-b", "--redis", NOWHERE, "-x"]):
        run(*words, cwd=tmp_path)
    assert list(tmp_path.glob("ran-*")) == []
