"""What `examples/demo` shows: resqued with an embedded Valkey, an application and work to do."""

from __future__ import annotations

import collections
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
import shop
from rq import Queue

HERE = Path(__file__).parent
RESQUED = str(Path(sys.executable).parent / "resqued")
WORK: list[tuple[str, Callable[..., object], list[object]]] = [
    ("low", shop.report, list(range(1, 7))),
    ("mail", shop.mail, [f"user{n}" + "@example.com" * (n % 20 != 0) for n in range(160)]),
    ("high", shop.thumbnail, list(range(240))),
    ("critical", shop.charge, list(range(100))),
]


def main() -> int:
    state = Path(tempfile.mkdtemp(prefix="resqued-demo-"))
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda signum, _: sys.exit(128 + signum))
    arbiter = start(state)
    try:
        show(arbiter, state)
        status = arbiter.wait(30)
    except SystemExit:
        arbiter.send_signal(signal.SIGTERM)
        arbiter.wait(30)
        shutil.rmtree(state)
        raise
    finally:
        if arbiter.poll() is None:
            arbiter.kill()
            arbiter.wait()
    if status != 0:
        print((state / "log").read_text(), file=sys.stderr)
        print(f"resqued left with {status}; its log is above, its data in {state}", file=sys.stderr)
        return 1
    summary(state)
    shutil.rmtree(state)
    return 0


def start(state: Path) -> subprocess.Popen[bytes]:
    """resqued, as one would start it by hand in this directory; workers and queues are in its
    resqued.conf.py."""
    arguments = [f"--state={state}", f"--pid={state}/pid", f"--log-file={state}/log"]
    print("$ resqued", *arguments, flush=True)
    return subprocess.Popen([RESQUED, *arguments], cwd=HERE, stdin=subprocess.DEVNULL)


def show(arbiter: subprocess.Popen[bytes], state: Path) -> None:
    """Feed it, look at it while it works, and drain it when the queues are empty."""
    with connect(arbiter, state) as connection:
        queues = feed(connection)
        deadline = time.monotonic() + 25
        while arbiter.poll() is None and time.monotonic() < deadline:
            view(state, {queue.name: queue.count for queue in queues})
            if not any(queue.count for queue in queues):
                break
            time.sleep(0.5)
    print("\nThe queues are empty: SIGQUIT, every worker finishes what it has in hand.", flush=True)
    arbiter.send_signal(signal.SIGQUIT)


def connect(arbiter: subprocess.Popen[bytes], state: Path) -> redis.Redis:
    """The embedded server answers on a socket in the state directory as soon as it is up."""
    deadline = time.monotonic() + 20
    connection = redis.Redis(unix_socket_path=str(state / "embedded" / "socket"))
    while arbiter.poll() is None and time.monotonic() < deadline:
        try:
            connection.ping()
        except redis.RedisError:
            time.sleep(0.05)
        else:
            return connection
    sys.exit(f"the embedded server does not answer:\n{(state / 'log').read_text()}")


def feed(connection: redis.Redis) -> list[Queue]:
    queues = []
    for name, function, arguments in WORK:
        queue = Queue(name, connection=connection)
        queue.enqueue_many([Queue.prepare_data(function, (each,)) for each in arguments])
        queues.append(queue)
    print("fed " + ", ".join(f"{len(each)} jobs to {name}" for name, _, each in WORK), flush=True)
    return queues


def view(state: Path, waiting: dict[str, int]) -> None:
    """What `resqued --status` says, in place on a terminal and one after the other elsewhere."""
    command = [RESQUED, "--status", "--pid", str(state / "pid")]
    status = subprocess.run(command, cwd=HERE, capture_output=True, text=True).stdout
    if sys.stdout.isatty():
        print("\033[H\033[2J", end="")
    print("\nwaiting: " + ", ".join(f"{name} {count}" for name, count in waiting.items()))
    print(status, end="", flush=True)


def summary(state: Path) -> None:
    """The receipts that the configuration's `after_job` wrote, by queue."""
    receipts = [line.split() for line in (state / "receipts").read_text().splitlines()]
    print(f"\n{'queue':<10}{'fed':>6}{'finished':>10}{'failed':>8}  by workers")
    for name, _, fed in reversed(WORK):
        mine = [(int(number), status) for queue, number, status in receipts if queue == name]
        outcomes = collections.Counter(status for _, status in mine)
        workers = ",".join(map(str, sorted({number for number, _ in mine})))
        print(
            f"{name:<10}{len(fed):>6}{outcomes['finished']:>10}{outcomes['failed']:>8}  {workers}"
        )
    total = sum(len(fed) for _, _, fed in WORK)
    print(f"{len(receipts)} of {total} jobs done; all processes have left.")


if __name__ == "__main__":
    sys.exit(main())
