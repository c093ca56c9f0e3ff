"""What lies in examples/ works as it is."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.command import environment, run
from harness.waiting import scaled

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def short_path():
    """The embedded server's socket is below it: at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def test_the_demo_does_every_job_and_leaves_nothing(short_path, no_process_left):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "app" / "demo.py"],
        env=environment(TMPDIR=str(short_path)),
        cwd=short_path,
        capture_output=True,
        text=True,
        timeout=scaled(50),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)  ([\d,]+)$", done.stdout, re.MULTILINE)
    assert [row[:4] for row in table] == [
        ("critical", "100", "100", "0"),
        ("high", "240", "240", "0"),
        ("mail", "160", "152", "8"),
        ("low", "6", "6", "0"),
    ]
    workers = {row[0]: {int(number) for number in row[4].split(",")} for row in table}
    assert workers["low"] <= {1, 2}, "a quarter of eight"
    assert workers["high"] <= {1, 2, 3, 4, 5, 6}
    assert list(short_path.iterdir()) == []


def test_the_config_for_production_is_right(tmp_path):
    """But for the application and the directories that it names, which are not here."""
    config = (EXAMPLES / "resqued.conf.py").read_text()
    config = config.replace("/var/log/resqued", str(tmp_path)).replace(
        "/run/resqued", str(tmp_path)
    )
    (tmp_path / "resqued.conf.py").write_text(config)
    package = tmp_path / "myapp"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").touch()

    status, plan, complaint = run("--check", cwd=tmp_path)
    assert status == 0, plan + complaint
    assert re.search(r"critical,? ?high,? ?low", plan), plan


def test_the_unit_drains_and_survives_an_oom_kill():
    unit = (EXAMPLES / "resqued.service").read_text()
    for line in ("KillSignal=SIGQUIT", "KillMode=mixed", "OOMPolicy=continue"):
        assert line in unit.splitlines()
    assert "STOPSIGNAL SIGQUIT" in (EXAMPLES / "Dockerfile").read_text().splitlines()


@pytest.mark.parametrize("pid", [None, "", "gone"])
def test_rotating_logs_while_nothing_runs_is_no_error(tmp_path, pid):
    text = (EXAMPLES / "logrotate").read_text()
    (script,) = re.findall(r"^ +postrotate\n(.*)^ +endscript$", text, re.MULTILINE | re.DOTALL)
    if pid is not None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        (tmp_path / "resqued.pid").write_text(pid and str(ended.pid))
    script = script.replace("/run/resqued", str(tmp_path))
    done = subprocess.run(["sh", "-e", "-c", script], stderr=subprocess.DEVNULL)
    assert done.returncode == 0


def test_the_periodic_jobs_run_and_are_steered(resqued):
    folder = EXAMPLES / "cron"
    sources = ("--cron", "shop.cron", "--cron", folder / "rq_cron.py")
    queues = ("--queue", "default", "--queue", "low")
    arbiter = resqued("--path", folder, *queues, *sources)
    arbiter.wait_for("^rates: 1 EUR is 1.08 USD$", timeout=20)
    arbiter.wait_for("^report: of today$")
    ran = arbiter.control("cron", "run", "baskets: old ones")
    assert ran.returncode == 0, ran.stderr
    arbiter.wait_for("^baskets: none is older than 48 hours$")
    paused = arbiter.control("cron", "pause", "baskets: old ones")
    assert paused.returncode == 0, paused.stderr
    shown = arbiter.control("cron").stdout
    assert "paused" in shown
    for name in ("shop.tasks.fetch_rates", "shop.tasks.report", "shop.tasks.clean_baskets"):
        assert name in shown
