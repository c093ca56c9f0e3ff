"""The built-in plugin `reload`: a new generation when a file changes (`--reload`)."""

from __future__ import annotations

import pytest

APP = "def answer():\n    return {}\n"


def save(arbiter, text: str, name: str = "app.py") -> None:
    """As editors do it: a new file takes the place of the old one."""
    written = arbiter.directory / f".{name}.new"
    written.write_text(text)
    written.rename(arbiter.directory / name)


@pytest.fixture
def developed(resqued):
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--reload"), app=APP.format(1), expect_errors="failed|Traceback"
    )
    arbiter.wait_for(r"reload: watching \.$")
    arbiter.wait_for_workers(1)
    return arbiter


def test_a_saved_file_is_a_reload_and_is_named_in_one_line(developed, queue):
    save(developed, APP.format(2))
    developed.wait_for(r"reload: app\.py has changed$", timeout=20)
    developed.wait_for("gen=2 in service", timeout=20)
    job = queue().enqueue("app.answer")
    developed.wait_for("gen=1 retired", timeout=20)
    developed.wait_for(f"finished .*{job.id}|{job.id}.* finished", timeout=20)
    assert job.return_value(refresh=True) == 2
    assert len(developed.wait_for("has changed")) == 1


def test_a_broken_save_keeps_the_old_generation_and_the_next_one_mends_it(developed, queue):
    save(developed, "def answer(:\n")
    developed.wait_for("reload failed, gen=1 stays in service", timeout=20)
    assert len(developed.wait_for_workers(1)) == 1
    save(developed, APP.format(3))
    developed.wait_for("gen=3 in service", timeout=20)


def test_other_files_and_a_file_in_a_package_below(developed):
    (developed.directory / "notes.txt").write_text("nothing")
    package = developed.directory / "package"
    package.mkdir()
    (package / "tasks.py").write_text("")
    developed.wait_for(r"reload: package/tasks\.py has changed$", timeout=20)
    assert "notes.txt" not in developed.log()


def test_it_ends_with_the_setting_and_begins_with_it(resqued):
    arbiter = resqued("-n", 1, config="reload = False")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "resqued.conf.py").write_text("reload = True")
    arbiter.signal("HUP")
    arbiter.wait_for("reload: watching", timeout=20)
    (arbiter.directory / "resqued.conf.py").write_text("reload = False")
    arbiter.wait_for("gen=3 in service", timeout=20)
    (arbiter.directory / "resqued.conf.py").write_text("reload = False # still")
    arbiter.wait_for("reload: no longer watching", timeout=20)


def test_it_watches_again_after_a_reexec(developed):
    developed.signal("USR2")
    developed.wait_for("re-exec done", timeout=30)
    developed.wait_for("reload: watching", times=2)
    developed.wait_for("gen=2 in service", timeout=20)
    save(developed, APP.format(4))
    developed.wait_for("gen=3 in service", timeout=20)
