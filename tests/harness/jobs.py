"""What jobs do to their worker, from the tame to the hostile. Runs in the workers.

A job that is to last waits on a *gate*: a file that the test makes when it may end. `started`
writes the ledger line and then makes `<gate>.reached`, so no test needs to guess how far it is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rq import get_current_job

from harness.ledger import write


@contextlib.contextmanager
def entered(gate: str | None = None) -> Iterator[None]:
    """A start line in the ledger, `<gate>.reached`, and an end line if the body comes through."""
    job = get_current_job()
    attempt = os.urandom(4).hex()
    identifier = job.id if job else "-"
    write(identifier, attempt, "start")
    if gate:
        Path(f"{gate}.reached").write_text(str(os.getpid()))
    yield
    write(identifier, attempt, "end")


def noop() -> int:
    with entered():
        return os.getpid()


def nothing() -> None:
    """Not even a ledger line; for counting how many a second."""


def sleep(seconds: float, gate: str | None = None) -> float:
    """In parts: a signal that comes just before the system call is handled after it."""
    with entered(gate):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        return seconds


def wait_at(gate: str) -> str:
    """Lasts until the test makes the file."""
    with entered(gate):
        while not Path(gate).exists():
            time.sleep(0.01)
        return gate


def sleep_in_c(seconds: float, gate: str | None = None) -> None:
    """ChildMain C code that holds the GIL: no Python signal handler runs meanwhile."""
    with entered(gate):
        # in parts of a tenth: sleep(3) returns early when a signal is caught
        libc = ctypes.PyDLL(None)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            libc.usleep(int(min(left, 0.9) * 1e6))


def stuck_in_c(gate: str | None = None) -> None:
    """In one C call that holds the GIL and takes no notice of signals; only SIGKILL ends it."""
    with entered(gate):
        libc = ctypes.PyDLL(None)
        fds = (ctypes.c_int * 2)()
        libc.pipe(fds)
        mutex = ctypes.create_string_buffer(256)
        libc.pthread_mutex_init(mutex, None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # of ourselves: for ever, restarted after every signal


def swallow(gate: str | None = None) -> None:
    """`except BaseException` around everything, for ever."""
    with entered(gate):
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(0.05)


def swallow_once(gate: str | None = None) -> None:
    """Swallow the timeout, and nothing after it."""
    with entered(gate), contextlib.suppress(Exception):
        time.sleep(60)
    time.sleep(60)


def coroutine(seconds: float, gate: str | None = None) -> None:
    """Subtasks that swallow their cancellation once."""

    async def part() -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            raise

    async def whole() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(part())

    with entered(gate):
        asyncio.run(whole())


def thread_pool(seconds: float, gate: str | None = None) -> None:
    with entered(gate), concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [seconds, seconds]))


def run_program(seconds: float, gate: str | None = None) -> None:
    with entered(gate):
        subprocess.run(["sleep", str(seconds)], check=True)


def wait_in_redis(key: str, seconds: float, gate: str | None = None) -> None:
    """Blocked in a call on the job's own connection."""
    job = get_current_job()
    assert job is not None
    with entered(gate):
        job.connection.blpop([key], timeout=seconds)


def fail(message: str = "told to fail") -> None:
    with entered():
        raise ValueError(message)


def leave(status: int = 0) -> None:
    """sys.exit: an exception like others, as RQ sees it."""
    with entered():
        sys.exit(status)


def vanish(status: int = 0) -> None:
    """os._exit: the process is gone without a word."""
    with entered():
        os._exit(status)


def segfault() -> None:
    with entered():
        faulthandler._sigsegv()  # type: ignore[attr-defined]


def kill_self(signum: int = signal.SIGKILL) -> None:
    with entered():
        os.kill(os.getpid(), signum)
        time.sleep(10)


def kill_parent() -> None:
    """The parent is the fork server."""
    with entered():
        os.kill(os.getppid(), signal.SIGKILL)


def hog(megabytes: int, gate: str | None = None) -> int:
    """Keep that much for the life of the process."""
    with entered(gate):
        _hoard.append(bytearray(os.urandom(1024)) * (megabytes * 1024))
        return len(_hoard)


def wait_and_hog(gate: str, megabytes: int) -> int:
    """The same, once the test makes the file."""
    wait_at(gate)
    return hog(megabytes)


_hoard: list[bytearray] = []


def fork(seconds: float, gate: str | None = None) -> int:
    """Leaves a child in the worker's process group."""
    with entered(gate):
        child = os.fork()
        if child == 0:
            time.sleep(seconds)
            os._exit(0)
        return child


def fork_and_return(gate: str | None = None) -> int:
    """Returns twice: a child that comes back from job code must not go on as a worker."""
    with entered(gate):
        return os.fork()


def daemonize(seconds: float, gate: str | None = None) -> None:
    """Leaves a process that has a session of its own."""
    with entered(gate):
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(seconds)
            os._exit(0)
        os.waitpid(child, 0)


def leave_thread(seconds: float) -> None:
    """A thread that is not a daemon and outlives the job."""
    with entered():
        threading.Thread(target=time.sleep, args=(seconds,)).start()


def shout(megabytes: int = 1) -> None:
    """Binary, without a line's end, on both streams, past Python's own buffers."""
    with entered():
        block = bytes(range(256)) * 4096
        for _ in range(megabytes):
            os.write(1, block)
            os.write(2, block)


def change_handlers() -> None:
    """Takes every signal for itself and blocks what it can; a worker must take them back."""
    with entered():
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})


def close_everything() -> None:
    """Close every descriptor there is, the Redis connection too."""
    with entered():
        os.closerange(3, 4096)


def slow_success(job: object, connection: object, result: object) -> None:
    """A success callback that waits at `<gate>`, which is the job's result."""
    gate = str(result)
    Path(f"{gate}.callback").touch()
    while not Path(f"{gate}.go").exists():
        time.sleep(0.01)


class Bomb:
    """Kills the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return kill_self, ()
