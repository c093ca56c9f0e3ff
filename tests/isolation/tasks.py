"""Jobs of the tests of isolation. They run in children of a worker."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from pathlib import Path

from rq import Retry, get_current_job

from harness.jobs import entered, stuck_in_c


def give(value):
    return value


def give_bytes(size):
    return b"x" * size


def give_unserializable():
    return lambda: None


def again(times):
    return Retry(times, interval=0)


def no_more():
    """What a job may change of itself: it is not retried, and its meta is kept."""
    job = get_current_job()
    job.retries_left = 0
    job.meta["seen"] = [1, 2]
    raise ValueError("no more")


def note(text):
    job = get_current_job()
    job.meta["note"] = text
    job.save_meta()
    return job.get_status(refresh=True)


def numbers():
    return random.random()


def on_success(job, connection, result):
    connection.rpush("told", f"success {result}")


def on_failure(job, connection, kind, error, trace):
    connection.rpush("told", f"failure {kind.__name__} {job.args}")


def on_stopped(job, connection):
    connection.rpush("told", f"stopped {job.args} {os.getpid()}")


def fail_on_success(job, connection, result):
    raise KeyError("in the callback")


def hang_on_success(job, connection, result):
    Path(f"{result}.reached").write_text(str(os.getpid()))
    time.sleep(1000)


def hang_in_c_on_success(job, connection, result):
    Path(f"{result}.reached").write_text(str(os.getpid()))
    stuck_in_c()


def handle(job, kind, error, trace):
    job.connection.rpush("told", f"handler {kind.__name__}")


def eat(megabytes, gate=None):
    """Allocates until its limit, as a process without one would until it is killed."""
    with entered(gate):
        hoard = []
        for _ in range(megabytes):
            hoard.append(bytearray(os.urandom(1024)) * 1024)
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does then


def eat_to_the_limit():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, -1))
    return len([bytearray(2**20) for _ in range(1000)])


def litter():
    """Writes into every descriptor that it can find."""
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)
            os.write(fd, b"rubbish" * 100)
        with contextlib.suppress(OSError):
            os.set_blocking(fd, True)
    return "littered"


def closes_everything(value):
    os.closerange(3, 4096)
    return value


def leaves_a_group_member(seconds, gate):
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    Path(f"{gate}.child").write_text(str(child))
    return child


def daemonizes_and_waits(gate):
    """A process in a session of its own, then a wait that has to be cut."""
    child = os.fork()
    if child == 0:
        os.setsid()
        daemon = os.fork()
        if daemon:
            Path(f"{gate}.daemon").write_text(str(daemon))
            os._exit(0)
        time.sleep(1000)
        os._exit(0)
    os.waitpid(child, 0)
    with entered(gate):
        time.sleep(1000)


def registers_exit(path):
    import atexit

    atexit.register(lambda: Path(path).write_text("ran"))


def threads(seconds):
    import threading

    threading.Thread(target=time.sleep, args=(seconds,), daemon=True).start()
    return os.getpid()


def pid():
    return os.getpid()


def descriptors():
    """What this process has open that is a pipe, a socket, or another process; and its parent."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()).strip("0123456789]"))
    return [name for name in found if name.endswith(("pipe:[", "socket:[", "[pidfd"))], os.getppid()


def say(text):
    os.write(1, f"{text} by {os.getppid()}\n".encode())


def parent(data=b""):
    return os.getppid()
