"""The plugins in examples/plugins, all of them in one resqued."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from rq import Queue

from harness.command import Resqued
from harness.receivers import Site, datagrams
from harness.server import free_port
from harness.waiting import read_lines, wait_for

TESTS = Path(__file__).parent
FAKES = TESTS / "fakes"
FILES = sorted((TESTS.parent / "examples" / "plugins").glob("*.py"))


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server that keeps what is posted to it."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[list[str]]:
    """The lines that are sent to `tmp_path / "notify"`."""
    with datagrams(tmp_path / "notify") as lines:
        yield lines


APP = """
    import os, signal, time
    from pathlib import Path

    import django.db
    from told import tell

    class Engine:
        def dispose(self, close):
            tell(f"engine: disposed, close={close}")

    engine = Engine()

    def threads():
        return os.environ["OMP_NUM_THREADS"]

    def fails():
        raise ValueError("as wanted")

    def wait(gate):
        Path(gate).with_suffix(".begun").touch()
        while not Path(gate).exists():
            time.sleep(0.01)
"""


def test_all_of_them_at_once_live_through_everything(
    site: Site,
    systemd: list[str],
    resqued: Callable[..., Resqued],
    queue: Callable[..., Queue],
    connection,
    tmp_path: Path,
) -> None:
    """Start, jobs, HUP, USR2, the death of a worker, a drain: no hook raises, and each plugin has
    done what it is for."""
    folder, port = tmp_path / "own", free_port()
    (folder / "paused").mkdir(parents=True)
    connection.sadd("resqued:off", "app.threads_of_old")
    options = {
        "prometheus-port": port,
        "sentry-dsn": f"http://key@127.0.0.1:{site.port}/1",
        "connections-engine": "app:engine",
        "elastic-max": 3,
        "elastic-spare": 1,
        "health-file-path": folder / "healthy",
        "lost-jobs-url": f"{site.url}/lost",
        "memory-limit": "2G",
        "pause-folder": folder / "paused",
        "tuning-log": folder / "failed",
        "tuning-nice": 1,
    }
    words = [word for path in FILES for word in ("-p", str(path))]
    words += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    service = resqued(
        *words,
        *("-n", 2, "--queue", "default", "--queue", "low", "-r", "app", "--boot-timeout", 120),
        app=APP,
        expect_errors="failed job|rq.worker|Traceback|SIGKILL|died",
        PYTHONPATH=f"{TESTS}:{FAKES}",
        FAKES=str(folder / "told"),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    service.wait_for_workers(2, timeout=60)

    # jobs
    threads = queue().enqueue("app.threads")
    failing = queue().enqueue("app.fails")
    off = queue().enqueue("app.threads_of_old")
    wait_for(lambda: off.get_status() == failing.get_status() == "failed", 30, "the jobs")
    assert threads.return_value() == "1"
    assert sorted(line.split()[1:] for line in read_lines(folder / "failed")) == [
        ["app.fails", "ValueError"],
        ["app.threads_of_old", "SwitchedOff"],
    ]

    # a pause, and its end while all workers are idle
    (folder / "paused" / "low").touch()
    low = queue("low").enqueue("operator.add", 1, 2)
    after = queue().enqueue("operator.add", 1, 2)
    wait_for(lambda: after.get_status() == "finished", 30, "the job of the other queue")
    assert low.get_status() == "queued"
    (folder / "paused" / "low").unlink()
    wait_for(lambda: low.get_status() == "finished", 30, "the job that was paused")

    # a reload, then a new image
    mark = service.mark()
    service.signal("HUP")
    service.wait_for("gen=2 .*ready", after=mark, timeout=60)
    mark = service.mark()
    service.signal("USR2")
    service.wait_for("gen=3 .*ready", after=mark, timeout=60)

    service.wait_for("gen=2 retired", after=mark, timeout=60)

    # the death of a worker with a job in hand
    service.wait_for_workers(2, timeout=60)
    lost = queue().enqueue("app.wait", str(folder / "gate"))
    wait_for((folder / "gate.begun").exists, 30, "the job to begin")
    [pid] = [w["pid"] for w in service.status()["workers"] if w["job_id"]]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: any(path == "/lost" for path, _ in site.posts), 30, "the post of the loss")
    [body] = [json.loads(body) for path, body in site.posts if path == "/lost"]
    assert body == {"job": lost.id, "function": "app.wait", "verdict": "failed"}

    # metrics
    def metrics() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
            return page.read().decode()

    gone = 'rq_workers_gone_total{reason="died"} 1.0'
    wait_for(lambda: gone in metrics(), 20, f"{gone} in\n{metrics()}")
    assert 'rq_jobs_total{queue="default",status="finished"} 2.0' in metrics()
    assert (folder / "healthy").exists()

    # a drain
    (folder / "gate").touch()
    assert service.stop("QUIT", timeout=60) == 0
    assert not (folder / "healthy").exists()
    assert not re.search(r"hook \w+: plugin '[^']+' (?!took )", service.log())
    told = set(read_lines(folder / "told"))
    assert {"django: closed all", "engine: disposed, close=False", "newrelic: initialized"} <= told
    assert {"newrelic: RQ/app.fails ValueError", "otlp: app.fails ERROR"} <= told
    assert {"READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"} <= set(systemd)
    reports = b"".join(body for path, body in site.posts if "envelope" in path)
    assert b"as wanted" in reports
    assert f"the process of job {lost.id} died: failed".encode() in reports
