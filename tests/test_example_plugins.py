"""The plugins in examples/plugins, each by itself. test_all_plugins.py has all of them at once."""

from __future__ import annotations

import ast
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from loguru import logger
from rq.job import Job

from harness.public import uses_of_what_is_private
from harness.receivers import Site
from harness.waiting import read_lines, scaled
from resqued import ConfigError, Dump, Kill, Terminate, VetoFork
from resqued.broker.keeper_locks import KeeperLocks
from resqued.plugins.imports import import_file
from resqued.testing import (
    FakeArbiter,
    FakeDuties,
    call,
    make_config,
    make_draft,
    make_duty,
    make_exit,
    make_generation,
    make_job,
    make_outcome,
    make_worker,
)

TESTS = Path(__file__).parent
FAKES = TESTS / "fakes"
FILES = sorted((TESTS.parent / "examples" / "plugins").glob("*.py"))
NAMES = [path.stem for path in FILES]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """`plugin("statsd")`: the example of that name, imported anew, with what stands in for
    libraries."""
    monkeypatch.syspath_prepend(str(FAKES))
    kept = set(sys.modules)
    yield lambda name: import_file(next(path for path in FILES if path.stem == name))
    for name in set(sys.modules) - kept:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith((str(FAKES), str(FILES[0].parent))):
            del sys.modules[name]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the stand-ins have been asked for."""
    monkeypatch.setenv("FAKES", str(tmp_path / "told"))
    return lambda: read_lines(tmp_path / "told")


# -- all of them


def test_there_are_sixteen_and_five_more():
    assert len(NAMES) == 21


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_each_is_short_and_uses_nothing_private(path):
    """Fewer than forty lines of code, public names of resqued, no signals to the arbiter."""
    source = path.read_text()
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring is not None
    assert f"-p examples/plugins/{path.name}" in docstring or path.stem == "systemd_notify"
    body = [line for line in source[source.index("from resqued") :].splitlines() if line.strip()]
    imports = len(re.findall(r"^(?:import|from) ", source, re.MULTILINE))
    assert len(body) + imports < 40
    assert uses_of_what_is_private(source) == []


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server that keeps what is posted to it."""
    site = Site()
    yield site
    site.close()


# -- one by one


def test_archiver_is_shown_in_the_guide():
    source = (FILES[0].parent / "archiver.py").read_text()
    guide = (TESTS.parent / "plugins" / "README.md").read_text()
    assert f"```python\n{source[source.index('from datetime') :]}```" in guide


def test_archiver_moves_what_failed_a_week_ago(plugin, valkey, queue, connection):
    archiver, duties = plugin("archiver"), FakeDuties()
    call(archiver, "duties", duties=duties, generation=make_generation())
    (duty,) = duties.added.values()
    assert (duty.every, duty.once) == (600, "fleet")
    old, new = (queue().enqueue("operator.truediv", 1, 0) for _ in range(2))
    for job, days in ((old, 8), (new, 6)):
        job.ended_at = datetime.now(UTC) - timedelta(days=days)
        job.set_status("failed")
        job.save()
        queue().remove(job)
        queue().failed_job_registry.add(job, -1)
    token = KeeperLocks(connection, "a").hold("archiver").token
    duty.function(make_duty(connection=connection, token=token))
    assert queue().failed_job_registry.get_job_ids() == [new.id]
    assert not Job.exists(old.id, connection)
    ((_, entry),) = connection.xrange("archive")
    assert entry == {b"job": old.id.encode(), b"call": b"operator.truediv(1, 0)"}


def test_autoscaling_answers_when_it_has_measured(plugin, valkey, queue):
    scaling = plugin("autoscaling")
    config = make_config(scaling, redis=valkey.url, workers=2, autoscaling_max=5)
    arbiter = FakeArbiter(config=config)
    call(scaling, "arbiter_started", arbiter=arbiter)
    assert call(scaling, "worker_count", arbiter=arbiter) is None
    arbiter.advance(2)
    assert call(scaling, "worker_count", arbiter=arbiter) == 2
    for waiting, wanted in ((31, 3), (200, 5)):
        while len(queue()) < waiting:
            queue().enqueue("operator.add", 1, 2)
        arbiter.advance(2)
        assert call(scaling, "worker_count", arbiter=arbiter) == wanted


def test_checks_refuse_too_few_workers(plugin):
    checks = plugin("checks")
    with pytest.raises(ConfigError, match="2 workers for 3 queues"):
        draft = make_draft(workers=2, queues={"a": "all", "b": "all", "c": "all"})
        call(checks, "configure", config=draft)
    draft = make_draft()
    call(checks, "configure", config=draft)
    assert draft.grace == 600


def test_connections_are_closed_around_forks_and_jobs(plugin, told, tmp_path, monkeypatch):
    connections = plugin("connections")
    import django.db  # noqa: F401 (as the application does)

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop.py").write_text(
        "from told import tell\nclass Engine:\n"
        "    def dispose(self, close): tell(f'engine: disposed, close={close}')\nengine = Engine()"
    )
    call(connections, "app_loaded", generation=make_generation())
    config = make_config(connections, connections_engine="shop:engine")
    worker = make_worker(config=config)
    call(connections, "after_fork", worker=worker)
    call(connections, "before_job", worker=worker, job=make_job())
    call(connections, "after_job", worker=worker, job=make_job())
    old = "django: closed old ones"
    assert told() == ["django: closed all", "engine: disposed, close=False", old, old]


def test_elastic_asks_for_some_more_workers_than_are_busy(plugin):
    elastic = plugin("elastic")
    config = make_config(elastic, workers=2, elastic_max=4, elastic_spare=1)
    arbiter = FakeArbiter(config=config, wished=2)
    call(elastic, "arbiter_started", arbiter=arbiter)
    arbiter.advance(1)
    assert arbiter.verbs == []
    for busy, wished in ((2, 3), (9, 4)):
        arbiter.workers = [make_worker(number=n + 1, job_id=str(n)) for n in range(busy)]
        arbiter.advance(1)
        assert arbiter.verbs.pop() == ("scale", wished)
        arbiter.wished = wished
    arbiter.state = "draining"
    arbiter.workers = []
    arbiter.advance(1)
    assert arbiter.verbs == []


def test_guards(plugin):
    log_lines: list[str] = []
    sink = logger.add(log_lines.append, format="{message}")
    guards = plugin("guards")
    call(guards, "before_fork", worker=make_worker(config=make_config(guards)))
    greedy = make_worker(config=make_config(guards, guards_free="900000G"))
    with pytest.raises(VetoFork, match=r"\d+ MB of memory are free"):
        call(guards, "before_fork", worker=greedy)
    for times in range(1, 8):
        exit = make_exit(code=1, booted=False, failures_in_a_row=times)
        call(guards, "worker_exited", worker=make_worker(), exit=exit)
    assert [line for line in log_lines if "does not come up" in line] == [
        "worker 1 does not come up: exit status 1\n"
    ]
    logger.remove(sink)
    env: dict[str, str] = {}
    call(guards, "before_exec", argv=[], env=env)
    assert "RELEASE" in env


def test_the_health_file_is_there_while_there_are_workers(plugin, tmp_path):
    health = plugin("health_file")
    path = tmp_path / "healthy"
    arbiter = FakeArbiter(config=make_config(health, health_file_path=str(path)))
    call(health, "tick", arbiter=arbiter)
    assert not path.exists()
    arbiter.workers = [make_worker()]
    call(health, "tick", arbiter=arbiter)
    assert path.exists()
    call(health, "arbiter_exited", arbiter=arbiter)
    assert not path.exists()


def test_the_kill_switch_keeps_a_job_from_running(plugin, connection):
    switch = plugin("kill_switch")
    job = make_job("operator.add", 1, 2, connection=connection)
    assert call(switch, "perform_job", job=job, run=lambda: 3) == 3
    connection.sadd("resqued:off", "operator.add")
    with pytest.raises(switch.SwitchedOff, match=r"operator\.add"):
        call(switch, "perform_job", job=job, run=lambda: pytest.fail("it ran"))


def test_libraries_take_one_thread_unless_they_are_told_otherwise(plugin):
    env = {"OMP_NUM_THREADS": "4"}
    call(plugin("library_threads"), "fork_server_env", env=env)
    assert env["OMP_NUM_THREADS"] == "4"
    assert (env["OPENBLAS_NUM_THREADS"], env["MALLOC_ARENA_MAX"]) == ("1", "2")


def test_lost_jobs_are_told_from_a_thread(plugin, site):
    lost = plugin("lost_jobs")
    arbiter = FakeArbiter(config=make_config(lost, lost_jobs_url=f"{site.url}/lost"))
    call(lost, "arbiter_started", arbiter=arbiter)
    worker = make_worker(job_id="7", function="shop.pay")
    call(lost, "job_lost", worker=worker, job_id="7", verdict="failed")
    assert site.posts == []
    arbiter.advance(2)
    [(path, body)] = site.posts
    assert path == "/lost"
    assert json.loads(body) == {"job": "7", "function": "shop.pay", "verdict": "failed"}


def test_a_large_worker_is_replaced_with_the_name_of_the_job(plugin):
    memory = plugin("memory")
    config = make_config(memory, memory_limit="100M")
    call(memory, "after_job", worker=make_worker(), job=make_job("shop.report"))
    for megabytes, answer in ((None, None), (100, None), (101, "101 MB after shop.report")):
        size = megabytes and megabytes * 2**20
        worker = make_worker(config=config, memory=size)
        assert call(memory, "should_recycle", worker=worker) == answer


def test_new_relic_hears_of_jobs(plugin, told):
    new_relic = plugin("new_relic")
    arguments = {"worker": make_worker(), "job": make_job("operator.truediv", 1, 0)}
    call(new_relic, "after_fork", worker=make_worker())
    assert call(new_relic, "perform_job", **arguments, run=lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        call(new_relic, "perform_job", **arguments, run=lambda: 1 / 0)
    call(new_relic, "worker_exiting", worker=make_worker())
    name = "newrelic: RQ/operator.truediv"
    ended = [f"{name} ended", f"{name} ZeroDivisionError"]
    assert told() == ["newrelic: initialized", *ended, "newrelic: shut down"]


def test_a_file_pauses_a_queue(plugin, tmp_path):
    pause = plugin("pause")
    config = make_config(pause, pause_folder=str(tmp_path / "paused"))
    arbiter, worker = FakeArbiter(config=config), make_worker(config=config)
    call(pause, "arbiter_started", arbiter=arbiter)
    queues = ["high", "low"]
    assert call(pause, "order_queues", worker=worker, queues=queues) is None
    arbiter.advance(1)
    assert arbiter.verbs == []
    (tmp_path / "paused").mkdir()
    (tmp_path / "paused" / "high").touch()
    arbiter.advance(1)
    assert arbiter.verbs == [("look_again",)]
    assert call(pause, "order_queues", worker=worker, queues=queues) == ["low"]


def test_half_of_the_workers_leave_out_the_last_queue(plugin):
    shares = plugin("queue_shares")
    config = make_config(queues={"high": "all", "mid": 1, "low": "all"})
    served = [
        call(shares, "choose_queues", config=config, number=number, count=4)
        for number in (1, 2, 3, 4)
    ]
    assert served == [["high", "mid", "low"], ["high", "low"], ["high"], ["high"]]


def test_a_stuck_worker_is_ended_in_three_steps(plugin):
    stuck = plugin("stuck")
    steps = [call(stuck, "worker_stuck", worker=make_worker(), attempt=n) for n in range(4)]
    assert steps == [Dump, Terminate, Kill, Kill]


def test_statsd_gets_metrics(plugin):
    statsd = plugin("statsd")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(scaled(20))
        config = make_config(statsd, statsd_port=agent.getsockname()[1])
        call(statsd, "tick", arbiter=FakeArbiter(config=config, workers=[make_worker()]))
        assert agent.recv(100) == b"resqued.workers:1|g"
        worker, outcome = make_worker(config=config), make_outcome(seconds=0.25)
        call(statsd, "after_job", worker=worker, job=make_job(), outcome=outcome)
        assert agent.recv(100) == b"resqued.default.finished:250|ms"
    statsd.client().close()


def test_systemd_is_told_of_each_state(plugin, tmp_path, monkeypatch):
    notify = plugin("systemd_notify")
    arbiter = FakeArbiter(workers=[make_worker()])
    call(notify, "tick", arbiter=arbiter)  # without systemd nothing happens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(scaled(20))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        call(notify, "arbiter_ready", arbiter=arbiter, error=None)
        assert systemd.recv(100) == b"READY=1\nSTATUS=1 workers"
        call(notify, "arbiter_ready", arbiter=arbiter, error="no such module")
        assert systemd.recv(100) == b"READY=1\nSTATUS=no such module"
        call(notify, "tick", arbiter=arbiter)
        assert systemd.recv(100) == b"WATCHDOG=1"
        assert call(notify, "signal_received", arbiter=arbiter, signame="HUP") is None
        assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        call(notify, "arbiter_stopping", arbiter=arbiter, dropped=True)
        call(notify, "arbiter_stopping", arbiter=arbiter, dropped=False)
        assert systemd.recv(100) == b"STOPPING=1"
