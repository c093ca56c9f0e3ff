"""The fork server, over a real channel and scoreboard; the test plays the arbiter."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from harness import processes
from harness.waiting import read_lines, scaled, wait_for
from resqued import messages
from resqued.arbiter import launch
from resqued.channel import Channel, Closed
from resqued.config import Config
from resqued.death import Death
from resqued.forkserver.fork_server import STAY
from resqued.invocation import Invocation, working_directory
from resqued.messages import Begin, ForkWorker, Recover, SignalWorker
from resqued.scoreboard import VERSION, Phase, Scoreboard, Stop

pytestmark = pytest.mark.processes

TESTS = str(Path(__file__).parent)
PASSWORD = "hunter2secret"


OPTIONS = {"cron": ()}
"""Settings of built-in plugins, which a real arbiter reads."""


class Arbiter:
    """Starts a fork server and talks with it."""

    def __init__(self, directory: Path, module: str) -> None:
        self.directory = directory
        self.log_path = directory / "log"
        self.log_fd = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.scoreboard = Scoreboard.create()
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.dumps = os.memfd_create("resqued-stacks-1", os.MFD_CLOEXEC)
        self.channel, theirs = Channel.pair()
        self.serial = 0
        program = (sys.executable, "-P", "-m", module)
        with theirs:
            self.pid = launch.spawn_fork_server(
                generation=1,
                channel_socket=theirs,
                scoreboard_fd=self.scoreboard.fd,
                doorbell_fd=self.doorbell,
                dumps_fd=self.dumps,
                log={"log": self.log_fd},
                env=dict(os.environ),
                invocation=Invocation(program, (), True, str(directory)),
            )
        self.status: int | None = None
        self.closed = False

    def begin(self, protocol: int = VERSION, **settings: object) -> None:
        config = Config(
            options=OPTIONS,
            redis=f"redis://u:{PASSWORD}@localhost/0",
            log_file=str(self.log_path),
            **settings,
        )
        self.expect(messages.Hello)
        self.channel.send(Begin(protocol, config.as_plain(), "host.test"))

    def ready(self, **settings: object) -> None:
        self.begin(**settings)
        self.expect(messages.Ready)

    def expect(self, kind, timeout: float = 10):
        """The next packet, which is of this kind. What the process calls is passed over."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        message = None
        while message is None:  # a long one arrives in parts
            assert poll.poll(scaled(timeout) * 1000), f"no {kind}\n{self.log()}"
            try:
                message = self.channel.receive()
                if isinstance(message, messages.Calling) and kind is not messages.Calling:
                    message = None
            except Closed:
                pytest.fail(f"it closed the channel; no {kind}\n{self.log()}")
        assert isinstance(message, kind), f"{message}\n{self.log()}"
        return message

    def ask_fork(self, slot: int, *queues: str, trial: bool = False) -> None:
        self.serial += 1
        self.scoreboard.set_stop(slot, Stop.NONE)
        name = f"host.{slot}.{self.serial}"
        self.channel.send(ForkWorker(slot, name, self.serial, list(queues), trial))

    def fork(self, slot: int, *queues: str) -> int:
        self.ask_fork(slot, *queues)
        pid = self.expect(messages.WorkerForked).pid
        self.wait_for_event(f"worker {slot} pid={pid}")
        return pid

    def events(self) -> list[str]:
        return read_lines(self.directory / "events")

    def wait_for_event(self, start: str) -> str:
        def found():
            return [line for line in self.events() if line.startswith(start)]

        return wait_for(found, 10, f"'{start}' in events\n{self.log()}")[0]

    def log(self) -> str:
        return self.log_path.read_text()

    def wait(self) -> int:
        """The exit status of the fork server."""
        if self.status is None:
            _, status = wait_for(lambda: self._ended(), 10, f"its end\n{self.log()}")
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def _ended(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return (pid, status) if pid else None

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        (self.directory / "release").touch()
        self.channel.close()
        self.wait()
        self.scoreboard.close()
        for fd in (self.doorbell, self.dumps, self.log_fd):
            os.close(fd)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start(app="X = 1", config="def before_fork(worker): ...")`: an arbiter to talk through."""
    processes.become_subreaper()
    monkeypatch.setenv("PYTHONPATH", TESTS)
    before = {child.pid for child in processes.descendants()}
    arbiters: list[Arbiter] = []

    def make(app: str = "", config: str = "", module: str = "harness.toy_fork_server") -> Arbiter:
        (tmp_path / "app_of_test.py").write_text(textwrap.dedent(app))
        (tmp_path / "conf.py").write_text(textwrap.dedent(config))
        arbiters.append(Arbiter(tmp_path, module))
        return arbiters[-1]

    yield make
    for arbiter in arbiters:
        arbiter.close()

    def nothing_left():
        processes.reap_adopted(keep=set())
        return not [each for each in processes.descendants() if each.pid not in before]

    wait_for(nothing_left, 10, "everything to have left")


def open_files(pid: int) -> dict[int, str]:
    """Descriptor and where it leads."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = str(link.readlink())
    return found


def test_it_greets_before_it_is_told_anything_and_is_ready_after_the_app_is_loaded(start, tmp_path):
    arbiter = start(app="open('loaded', 'w').close()")
    hello = arbiter.expect(messages.Hello)
    assert (hello.protocol, hello.pid) == (VERSION, arbiter.pid)
    assert not (tmp_path / "loaded").exists()
    config = Config(options=OPTIONS, require=("app_of_test",), log_file=str(arbiter.log_path))
    arbiter.channel.send(Begin(VERSION, config.as_plain(), "host.test"))
    arbiter.expect(messages.Ready)
    assert (tmp_path / "loaded").exists()
    title = processes.title(psutil.Process(arbiter.pid))
    assert title == "resqued: fork server, generation 1 [app_of_test]"


def test_no_preload_leaves_the_modules_to_the_workers(start, tmp_path):
    arbiter = start(app="open('loaded', 'w').close()")
    arbiter.ready(require=("app_of_test",), preload_app=False)
    assert not (tmp_path / "loaded").exists()


def test_a_worker_is_born_clean(start):
    arbiter = start(app="X = 1")
    arbiter.ready(require=("app_of_test",))
    arbiter.ask_fork(3, "high", "low")
    forked = arbiter.expect(messages.WorkerForked)
    said = arbiter.wait_for_event("worker 3")
    assert said == f"worker 3 pid={forked.pid} frozen=True gc=True held=True trial=False"
    assert os.getpgid(forked.pid) == forked.pid
    assert os.getpgid(arbiter.pid) == arbiter.pid
    assert psutil.Process(forked.pid).ppid() == arbiter.pid
    assert processes.title(psutil.Process(forked.pid)) == "resqued: worker 3 high,low [booting]"
    assert os.eventfd_read(arbiter.doorbell) == 1
    record = arbiter.scoreboard.read(3)
    assert (record.pid, record.generation, record.serial) == (forked.pid, 1, 1)
    assert (record.name, record.phase) == ("host.3.1", Phase.IDLE)
    assert record.deadline == pytest.approx(record.started + 60)
    leads_to = open_files(forked.pid).values()
    assert not [target for target in leads_to if "socket" in target or "pipe" in target]


def test_the_trial_worker_is_told_that_it_is_one(start):
    arbiter = start()
    arbiter.ready()
    arbiter.ask_fork(0, "default", trial=True)
    arbiter.expect(messages.WorkerForked)
    assert arbiter.wait_for_event("worker 0").endswith("trial=True")


def test_a_death_is_told_with_record_and_resources_and_the_slot_is_free_again(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(2, "busy")
    arbiter.channel.send(SignalWorker(2, pid, signal.SIGKILL))
    arbiter.ask_fork(2, "default")
    answers = {}
    for _ in range(2):  # it may be forked again before the signal has worked: then it is refused
        message = arbiter.expect(messages.Message)
        answers[type(message)] = message
    gone = answers[messages.WorkerExited]
    death = gone.death
    assert (death.slot, gone.serial, gone.pid, death.status) == (2, 1, pid, signal.SIGKILL)
    assert death.record.phase is Phase.RUNNING
    assert death.record.job_id == "j"
    assert death.rusage["maxrss"] > 5_000_000
    assert death.queues == ("busy",)
    if messages.WorkerNotForked in answers:
        assert answers[messages.WorkerNotForked].reason == os.strerror(errno.EBUSY)
        arbiter.fork(2, "default")
    wait_for(lambda: arbiter.scoreboard.read(2).serial > 1, 10, "the successor's record")


def test_a_worker_that_raises_ends_alone(start):
    arbiter = start()
    arbiter.ready()
    arbiter.ask_fork(1, "raise")
    arbiter.expect(messages.WorkerForked)
    gone = arbiter.expect(messages.WorkerExited)
    assert os.waitstatus_to_exitcode(gone.death.status) == 70
    assert "worker=1 gen=1" in arbiter.log()
    assert "RuntimeError: this worker cannot be" in arbiter.log()
    arbiter.fork(1)


def test_exit_statuses_are_told_as_they_are(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1)
    arbiter.channel.send(SignalWorker(1, pid, signal.SIGQUIT))
    assert os.waitstatus_to_exitcode(arbiter.expect(messages.WorkerExited).death.status) == 7


def test_only_its_own_workers_are_signalled(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1)
    arbiter.channel.send(SignalWorker(2, pid, signal.SIGKILL))  # not in that slot
    arbiter.channel.send(SignalWorker(1, os.getpid(), signal.SIGKILL))  # not a worker
    arbiter.fork(2)
    assert processes.alive(pid)


def test_a_group_signal_reaches_what_the_job_started(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "child")
    child = int(arbiter.wait_for_event("child").split()[1])
    arbiter.channel.send(SignalWorker(1, pid, signal.SIGKILL, group=True))
    arbiter.expect(messages.WorkerExited)
    wait_for(lambda: not processes.alive(child), 10, "the job's child to be gone")


def test_before_fork_can_put_a_fork_off(start):
    arbiter = start(
        config="""
        from resqued import VetoFork

        def before_fork(worker):
            if worker.number == 1 and worker.pid is None:
                raise VetoFork("no memory", retry_after=2.5)
            raise RuntimeError("only logged")
        """
    )
    arbiter.ready(config=str(arbiter.directory / "conf.py"))
    arbiter.ask_fork(1)
    veto = arbiter.expect(messages.Vetoed)
    assert (veto.slot, veto.serial, veto.reason, veto.retry_after) == (1, 1, "no memory", 2.5)
    arbiter.fork(2)
    assert "hook before_fork: plugin 'conf.py' raised RuntimeError: only logged" in arbiter.log()


def test_what_a_plugin_sets_before_a_fork_is_for_that_worker_of_many_that_are_asked_for(start):
    arbiter = start(
        config="""
        import os

        def before_fork(worker):
            os.environ["NUMBER"] = str(worker.number)

        def after_fork(worker):
            with open("numbers", "a") as file:
                file.write(f"{worker.number} {os.environ['NUMBER']}\\n")
        """
    )
    arbiter.ready(config=str(arbiter.directory / "conf.py"))
    for slot in range(1, 6):
        arbiter.ask_fork(slot)
    for slot in range(1, 6):
        assert arbiter.expect(messages.WorkerForked).slot == slot
    expected = [f"{slot} {slot}" for slot in range(1, 6)]
    wait_for(
        lambda: sorted(read_lines(arbiter.directory / "numbers")) == expected, 10, "all numbers"
    )


def test_many_that_are_asked_for_at_once_are_answered_one_by_one_in_their_order(start):
    arbiter = start()
    arbiter.ready()
    slots = [*range(1, 41), 40]
    for slot in slots:
        arbiter.ask_fork(slot)
    answers = [arbiter.expect((messages.WorkerForked, messages.WorkerNotForked)) for _ in slots]
    assert sorted(answer.serial for answer in answers) == list(range(1, 42))
    forked = [answer for answer in answers if isinstance(answer, messages.WorkerForked)]
    assert [answer.slot for answer in forked] == list(range(1, 41))
    assert len({answer.pid for answer in forked}) == 40
    refused = [answer for answer in answers if isinstance(answer, messages.WorkerNotForked)]
    assert [(answer.slot, answer.reason) for answer in refused] == [(40, os.strerror(errno.EBUSY))]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user whose limit it can lower")
def test_no_process_to_be_had_is_told_with_its_errno(start):
    arbiter = start(
        app="""
        import os, resource
        os.setuid(65000)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        """
    )
    arbiter.ready(require=("app_of_test",))
    arbiter.ask_fork(1)
    failed = arbiter.expect(messages.WorkerNotForked)
    assert (failed.slot, failed.serial) == (1, 1)
    assert failed.reason == os.strerror(errno.EAGAIN)


@pytest.mark.parametrize(
    ("app", "reason", "trace"),
    [
        ("import nonexistent_module", "No module named 'nonexistent_module'", "app_of_test.py"),
        ("import sys; sys.exit('no licence')", "SystemExit: no licence", "app_of_test.py"),
        ("def broken(:", "SyntaxError", "def broken(:"),
        ("x = 'redis://u:pw1@h'; raise OSError(x)", "redis://u:***@h", "redis://u:***@h"),
    ],
)
def test_an_app_that_cannot_be_imported_fails_the_generation(start, app, reason, trace):
    arbiter = start(app=app)
    arbiter.begin(require=("app_of_test",))
    failed = arbiter.expect(messages.LoadFailed)
    assert failed.reason.startswith("the import of 'app_of_test' failed: ")
    assert reason in failed.reason
    assert trace in failed.traceback
    assert "pw1" not in failed.traceback
    assert arbiter.wait() == 78


def test_a_huge_traceback_still_comes_through(start):
    arbiter = start(app="raise ValueError('x\\u20ac' * 100_000)")
    arbiter.begin(require=("app_of_test",))
    assert arbiter.expect(messages.LoadFailed).reason.startswith(
        "the import of 'app_of_test' failed"
    )


def test_an_app_that_crashes_is_seen_by_its_end(start):
    arbiter = start(app="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    arbiter.begin(require=("app_of_test",))
    assert arbiter.wait() == -signal.SIGSEGV
    called = []
    with pytest.raises(Closed):
        while True:
            called.append(arbiter.channel.receive())
    assert called[-1] == messages.Calling("the import of 'app_of_test'")


def test_an_app_that_hangs_can_be_told_to_leave(start):
    arbiter = start(app="import time; open('loading', 'w').close(); time.sleep(60)")
    arbiter.begin(require=("app_of_test",))
    wait_for((arbiter.directory / "loading").exists, 10, "the import to begin")
    os.kill(arbiter.pid, signal.SIGHUP)  # means nothing here
    os.kill(arbiter.pid, signal.SIGTERM)
    assert arbiter.wait() == messages.TOLD_TO_LEAVE


def test_an_app_that_hangs_shows_where(start):
    arbiter = start(
        app="""
        import time
        def fetch_the_model():
            while True:
                time.sleep(1)
        fetch_the_model()
        """
    )
    arbiter.begin(require=("app_of_test",), boot_timeout=3.0)
    wait_for(lambda: os.fstat(arbiter.dumps).st_size, 10, "the stacks")
    os.kill(arbiter.pid, signal.SIGKILL)
    assert arbiter.wait() == -signal.SIGKILL
    assert b"in fetch_the_model" in os.pread(arbiter.dumps, 100_000, 0)


def test_an_app_that_loads_may_use_sigalrm_afterwards(start):
    arbiter = start()
    arbiter.ready(boot_timeout=5.0)
    pid = arbiter.fork(1)
    assert "14" not in _caught(pid)
    assert os.fstat(arbiter.dumps).st_size == 0


def _caught(pid: int) -> set[str]:
    """Numbers of the signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return {str(number) for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("def app_loaded(generation): raise OSError('no model file')", "OSError: no model file"),
        ("def app_loaded(generation): raise SystemExit(3)", "SystemExit"),
        ("1 +", "invalid syntax"),
        ("def befor_fork(worker): ...", "before_fork"),
    ],
)
def test_a_config_file_whose_hooks_fail_fails_the_generation(start, config, reason):
    arbiter = start(config=config)
    arbiter.begin(config=str(arbiter.directory / "conf.py"))
    failed = arbiter.expect(messages.LoadFailed)
    assert reason in failed.reason + failed.traceback
    assert arbiter.wait() == 78


def test_a_plugin_that_is_missing_fails_the_generation(start):
    arbiter = start()
    arbiter.begin(plugins=("nonexistent_plugin",))
    assert "no plugin 'nonexistent_plugin'" in arbiter.expect(messages.LoadFailed).reason


def test_another_protocol_is_refused_and_usr2_named(start):
    arbiter = start()
    arbiter.begin(protocol=VERSION + 1)
    assert "USR2" in arbiter.expect(messages.LoadFailed).reason
    assert arbiter.wait() == 78


def test_app_loaded_sees_the_generation(start):
    arbiter = start(
        app="",
        config="""
        def app_loaded(generation):
            print(generation.number, generation.modules, generation.config.workers, flush=True)
        """,
    )
    out = str(arbiter.directory / "out")
    arbiter.ready(
        config=str(arbiter.directory / "conf.py"), require=("app_of_test",), stdout_path=out
    )
    assert Path(out).read_text() == "1 ('app_of_test',) 1\n"


def test_threads_that_the_app_left_running_are_named(start):
    arbiter = start(
        app="""
        import threading
        def collect_metrics():
            threading.Event().wait()
        threading.Thread(target=collect_metrics, name="metrics", daemon=True).start()
        """
    )
    arbiter.ready(require=("app_of_test",))
    assert (
        "left 1 threads running in the fork server: metrics (app_of_test.collect" in arbiter.log()
    )
    arbiter.fork(1)


def test_connections_that_the_app_left_open_are_named_by_their_peers(start, tmp_path):
    path = tmp_path / "theirs"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(path))
        local.listen()
        port = server.getsockname()[1]
        arbiter = start(
            app=f"""
            import asyncio, socket
            kept = [
                socket.create_connection(("127.0.0.1", {port})),
                socket.socket(socket.AF_UNIX),
                socket.create_server(("127.0.0.1", 0)),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
                asyncio.new_event_loop(),
            ]
            kept[1].connect({str(path)!r})
            closed = socket.create_connection(("127.0.0.1", {port}))
            closed.close()
            """
        )
        arbiter.ready(require=("app_of_test",))
        told = f"left 2 connections open in the fork server, to {path}, 127.0.0.1:{port}; its"
        assert told in arbiter.log()


def test_an_app_without_open_connections_is_not_warned(start):
    arbiter = start(app="import socket\nkept = socket.socketpair()\n")
    arbiter.ready(require=("app_of_test",))
    assert "connections open" not in arbiter.log()


NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
handle = ctypes.c_ulong()
libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
libc.pthread_self.restype = ctypes.c_ulong
wait = ctypes.cast(libc.pthread_join, ctypes.c_void_p)  # no signal interrupts it
libc.pthread_create(ctypes.byref(handle), None, wait, libc.pthread_self())

@ctypes.CFUNCTYPE(None)
def end():
    libc.pthread_cancel(handle)
    libc.pthread_join(handle, None)
"""


@pytest.mark.parametrize("knows", [True, False], ids=["ends before a fork", "goes on"])
def test_threads_of_a_library_that_knows_of_forks_are_not_warned_of(start, knows):
    """As OpenBLAS does it: pthread_atfork(3)."""
    register = "libc.__register_atfork(end, None, None, None)\n" if knows else ""
    arbiter = start(app=NATIVE + register)
    arbiter.ready(require=("app_of_test",))
    assert ("left 1 threads running" in arbiter.log()) is not knows


def test_an_app_that_removes_all_loguru_sinks_does_not_silence_us(start):
    arbiter = start(
        app="""
        from loguru import logger
        logger.remove()
        logger.add("theirs.log", format="{message}")
        logger.info("from the app")
        """
    )
    arbiter.ready(require=("app_of_test",))
    os.kill(arbiter.pid, signal.SIGTERM)
    assert arbiter.wait() == 0
    assert "leaving: SIGTERM received" in arbiter.log()
    assert "from the app" not in arbiter.log()
    assert "from the app" in (arbiter.directory / "theirs.log").read_text()


def test_the_working_directory_shadows_nothing_of_ours(start, tmp_path):
    (tmp_path / "redis.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "loguru.py").write_text("raise RuntimeError('shadowed')")
    arbiter = start(app="import conf", module="resqued")
    arbiter.ready(require=("app_of_test",))


def test_nothing_but_what_it_needs_is_inherited(start):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        arbiter = start()
        arbiter.ready()
        theirs = set(open_files(arbiter.pid).values())
        assert f"pipe:[{os.fstat(write).st_ino}]" not in theirs
        assert open_files(arbiter.pid)[0] == "/dev/null"
    finally:
        os.close(read)
        os.close(write)


def test_no_password_in_arguments_or_titles(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1)
    for each in (arbiter.pid, pid):
        for name in ("cmdline", "environ"):
            assert PASSWORD.encode() not in Path(f"/proc/{each}/{name}").read_bytes()


def test_workers_are_killed_before_us_when_memory_is_out(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1)
    ours, theirs = (int(Path(f"/proc/{p}/oom_score_adj").read_text()) for p in (arbiter.pid, pid))
    assert theirs == min(1000, ours + 300)


def test_recoveries_tell_their_verdict(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "busy")
    arbiter.channel.send(SignalWorker(1, pid, signal.SIGKILL))
    gone = arbiter.expect(messages.WorkerExited)
    for interrupted, verdict in ((True, "requeued"), (False, "failed")):
        arbiter.channel.send(Recover(replace(gone.death, interrupted=interrupted, reason="stuck")))
        said = arbiter.expect(messages.Recovered)
        assert (said.slot, said.name, said.verdict) == (1, "host.1.1", verdict)
    assert "recovery of host.1.1 job=j stuck" in arbiter.events()


def test_a_recovery_that_dies_has_no_verdict(start):
    arbiter = start()
    arbiter.ready()
    record = arbiter.scoreboard.read(1)
    arbiter.channel.send(Recover(Death(1, 9, {}, record, (), reason="die")))
    assert arbiter.expect(messages.Recovered).verdict == ""


def test_recoveries_are_few_at_a_time_and_hold_up_no_fork(start):
    arbiter = start()
    arbiter.ready()
    record = arbiter.scoreboard.read(1)
    for slot in range(1, 8):
        death = Death(slot, 9, {}, replace(record, name=f"host.{slot}"), (), True, "wait")
        arbiter.channel.send(Recover(death))
    arbiter.fork(8)
    assert len([line for line in arbiter.events() if line.startswith("recovery of")]) <= 4
    (arbiter.directory / "release").touch()
    names = {arbiter.expect(messages.Recovered).name for _ in range(7)}
    assert names == {f"host.{slot}" for slot in range(1, 8)}


def test_retire_means_no_more_forks_and_leaving_with_the_last_worker(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1)
    arbiter.channel.send(messages.Retire())
    arbiter.ask_fork(2)
    assert arbiter.expect(messages.WorkerNotForked).leaving
    assert processes.title(psutil.Process(arbiter.pid)).endswith("generation 1 [draining]")
    assert processes.alive(pid)
    arbiter.channel.send(SignalWorker(1, pid, signal.SIGQUIT))
    arbiter.expect(messages.WorkerExited)
    assert arbiter.wait() == 0


def test_when_the_arbiter_is_gone_jobs_are_finished_and_the_dead_recovered(start):
    arbiter = start()
    arbiter.ready()
    arbiter.fork(1, "busy")
    pid = arbiter.fork(2, "busy")
    arbiter.channel.close()
    arbiter.wait_for_event("worker 1 told 1")
    arbiter.wait_for_event("worker 2 told 1")
    os.kill(pid, signal.SIGKILL)
    arbiter.wait_for_event("recovered host.2.2")
    assert processes.alive(arbiter.pid)
    (arbiter.directory / "release").touch()
    assert arbiter.wait() == 0
    assert "worker 1 left" in arbiter.events()
    assert "worker 1 told 2" not in arbiter.events()
    assert "leaving: the arbiter is gone; 2 workers finish their jobs first" in arbiter.log()


def test_term_to_the_fork_server_drains_however_often_it_comes(start):
    arbiter = start()
    arbiter.ready()
    arbiter.fork(1, "busy")
    os.kill(arbiter.pid, signal.SIGTERM)
    arbiter.wait_for_event("worker 1 told 1")
    os.kill(arbiter.pid, signal.SIGQUIT)
    os.kill(arbiter.pid, signal.SIGINT)
    arbiter.channel.send(SignalWorker(1, 1, 0))  # an answer to wait for: it has seen them
    arbiter.ask_fork(2)
    assert arbiter.expect(messages.WorkerNotForked).leaving
    assert "worker 1 told 2" not in arbiter.events()
    (arbiter.directory / "release").touch()
    arbiter.expect(messages.WorkerExited)
    assert arbiter.wait() == 0


@pytest.mark.parametrize("asked", [True, False])
def test_told_to_leave_by_somebody_it_stays_to_recover_its_last_worker(start, asked):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "busy")
    os.kill(arbiter.pid, signal.SIGTERM)
    arbiter.wait_for_event("worker 1 told 1")
    os.kill(pid, signal.SIGKILL)
    gone = arbiter.expect(messages.WorkerExited)
    if asked:
        arbiter.channel.send(Recover(replace(gone.death, interrupted=True)))
        assert arbiter.expect(messages.Recovered).verdict == "requeued"
    assert arbiter.wait() == 0


def test_retired_it_does_not_stay(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "busy")
    os.kill(pid, signal.SIGKILL)
    arbiter.expect(messages.WorkerExited)
    began = time.monotonic()
    arbiter.channel.send(messages.Retire())
    assert arbiter.wait() == 0
    assert time.monotonic() - began < scaled(STAY)


def test_workers_drain_when_their_fork_server_is_killed(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "busy")
    os.kill(arbiter.pid, signal.SIGKILL)
    assert arbiter.wait() == -signal.SIGKILL
    arbiter.wait_for_event("worker 1 told 1")
    assert processes.alive(pid)
    (arbiter.directory / "release").touch()
    arbiter.wait_for_event("worker 1 left")


def test_reopen_reaches_the_fork_server_and_workers_in_mid_job(start):
    arbiter = start()
    arbiter.ready()
    pid = arbiter.fork(1, "busy")
    arbiter.log_path.rename(arbiter.directory / "log.1")
    arbiter.channel.send(messages.Reopen())
    for each in (arbiter.pid, pid):
        wait_for(
            lambda each=each: str(arbiter.log_path) in open_files(each).values(),
            10,
            f"pid {each} to follow",
        )
    os.kill(pid, signal.SIGQUIT)
    wait_for(lambda: "worker=1 gen=1" in arbiter.log(), 10, "the worker's line in the new file")


def test_a_child_of_the_app_keeps_its_exit_status_until_nobody_asks(start):
    arbiter = start(
        app="""
        import subprocess
        kept = subprocess.Popen(["true"])
        """
    )
    arbiter.ready(require=("app_of_test",))
    arbiter.fork(1)
    fork_server = psutil.Process(arbiter.pid)
    wait_for(
        lambda: not [each for each in fork_server.children() if processes.is_zombie(each)],
        10,
        "the zombie to be reaped",
    )


def test_it_follows_the_link_that_a_deployment_swings(tmp_path, monkeypatch):
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert working_directory() == str(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path))
    assert working_directory() == str(tmp_path / "release-1")


def test_words_for_a_fork_server_are_read_back():
    given = messages.Inherited(2, 812, 5, 6, 7, 8, 2, "/srv/a=b c")
    assert messages.Inherited.from_words(given.as_words()) == given
    assert given.descriptors == {5, 6, 7, 8, 2}
