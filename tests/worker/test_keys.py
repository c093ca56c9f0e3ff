"""Redis after a job, and during it, is as `rq.SimpleWorker` leaves it: every key, every lifetime.

Nothing here says what RQ writes: RQ's own worker runs the same job beside resqued's, so that a
release of RQ that writes something else is noticed.
"""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Callback, Queue, Repeat, Retry, SimpleWorker, Worker, get_current_job
from rq.command import send_stop_job_command
from rq.group import Group
from rq.job import Dependency
from rq.rate_limit import RateLimit
from rq.utils import now, utcformat
from rq.webhook import Webhook

from harness.keys import Picture, assert_same, differences, picture
from resqued.scoreboard import Order

NAME = "host.test.1.1"

LASTING = ("rq:wip:", "rq:execution", "rq:worker")
"""Keys of a job that runs. Here they last until the job's own end, so that no process has to send
heartbeats for it; RQ's last for a time that a thread or the parent of the job prolongs."""


# Jobs. Each begins with a picture of all keys.


def look() -> None:
    client = redis.Redis(unix_socket_path=os.environ["KEYS_SOCKET"])
    with Path(os.environ["KEYS_DURING"]).open("ab") as file:
        pickle.dump(picture(client), file)
    client.close()


def plain(value: Any = None) -> Any:
    look()
    return value


def large() -> str:
    look()
    return "x" * 300_000


def unserializable() -> Any:
    look()
    return threading.Lock()


async def coroutine() -> int:
    look()
    await asyncio.sleep(0)
    return 7


def fail() -> None:
    look()
    raise ValueError("told to fail")


def again(times: int, interval: int = 0) -> Retry:
    look()
    return Retry(times, interval)


def save_meta() -> None:
    look()
    job = get_current_job()
    job.meta["saved"] = 1
    job.save_meta()


def change_meta() -> None:
    look()
    get_current_job().meta["not saved"] = 1


def change_itself() -> None:
    look()
    job = get_current_job()
    job.description, job.result_ttl, job.meta = "changed", 900, {"new": 1}


def change_and_fail() -> None:
    change_itself()
    get_current_job().failure_ttl = 900
    raise ValueError("told to fail")


def save_itself() -> None:
    look()
    job = get_current_job()
    job.description = "saved"
    job.save()


def delete_itself() -> None:
    look()
    get_current_job().delete()


def enqueue_another() -> str:
    look()
    return Queue(connection=get_current_job().connection).enqueue(plain, job_id="another").id


def wait_at(gate: str) -> None:
    look()
    Path(f"{gate}.reached").write_text(str(os.getpid()))
    while not Path(gate).exists():
        time.sleep(0.01)


def called_back(job: Any, connection: Any, *rest: Any) -> None:
    connection.rpush("app:called", job.get_status())


def raise_in_callback(job: Any, connection: Any, *rest: Any) -> None:
    raise KeyError("callback")


OK, BAD = Callback(called_back, timeout=40), Callback(raise_in_callback)


# What is enqueued, for each kind of job.

Given = Callable[[Queue], Any]


def one(function: Callable[..., Any], *args: Any, **options: Any) -> Given:
    return lambda queue: queue.enqueue(function, *args, **{"job_id": "one", **options})


def with_dependent(function: Callable[..., Any], **how: Any) -> Given:
    def give(queue: Queue) -> None:
        queue.enqueue(function, job_id="one")
        queue.enqueue(plain, job_id="after", depends_on=Dependency("one", **how))

    return give


def of_a_group(queue: Queue) -> None:
    Group.create(queue.connection, name="group").enqueue_many(
        queue, [Queue.prepare_data(plain, job_id=name) for name in ("one", "two")]
    )


def dependent_of_two(queue: Queue) -> None:
    before = [queue.enqueue(plain, job_id=name, result_ttl=400) for name in ("one", "two")]
    queue.enqueue(plain, job_id="after", depends_on=before, result_ttl=600)


def two_under_a_limit(queue: Queue) -> None:
    for name in ("one", "two"):
        queue.enqueue(plain, job_id=name, rate_limit=RateLimit("limit", 1))


def with_an_order(queue: Queue) -> None:
    queue.enqueue(plain, job_id="one")
    queue.enqueue(fail, job_id="two", at_front=True)


def without_a_status(queue: Queue) -> None:
    """As another client than RQ's might write it."""
    data = pickle.dumps((f"{__name__}.plain", None, (), {}))
    fields = {"created_at": utcformat(now()), "origin": queue.name, "data": data}
    queue.connection.hset("rq:job:one", mapping=fields)
    queue.push_job_id("one")


KINDS: dict[str, Given] = {
    "plain": one(plain),
    "without an id": lambda queue: queue.enqueue(plain),
    "many options": one(
        *(plain, {"a": [1, "ü"]}),
        meta={"m": 1},
        description="what it does",
        ttl=900,
        result_ttl=300,
        failure_ttl=1000,
        job_timeout=80,
    ),
    "result ttl 0": one(plain, 1, result_ttl=0),
    "result ttl -1": one(plain, 1, result_ttl=-1),
    "result ttl None": one(plain, 1, result_ttl=None),
    "large result": one(large),
    "unserializable result": one(unserializable),
    "coroutine": one(coroutine),
    "saves meta": one(save_meta, meta={"old": 1}),
    "changes meta": one(change_meta, meta={"old": 1}),
    "changes itself": one(change_itself),
    "changes itself and fails": one(change_and_fail),
    "saves itself": one(save_itself),
    "enqueues another": one(enqueue_another),
    "raises": one(fail),
    "failure ttl": one(fail, failure_ttl=600),
    "failure ttl 0": one(fail, failure_ttl=0),
    "retry not needed": one(plain, retry=Retry(2, interval=100)),
    "retried at once": one(fail, retry=Retry(2)),
    "retried later": one(fail, retry=Retry(1, interval=1000)),
    "retried at the front": one(fail, retry=Retry(1, enqueue_at_front=True)),
    "returns Retry": one(again, 2),
    "returns Retry for later": one(again, 2, 1000),
    "repeats": one(plain, repeat=Repeat(2)),
    "repeats later": one(plain, repeat=Repeat(1, interval=1000)),
    "repeats and fails": one(fail, repeat=Repeat(1, interval=1000)),
    "success callback": one(plain, on_success=OK),
    "success callback that raises": one(plain, on_success=BAD),
    "failure callback": one(fail, on_failure=OK),
    "failure callback that raises": one(fail, on_failure=BAD),
    "stopped callback": one(plain, on_stopped=OK),
    "callbacks that are not called": one(plain, on_failure=OK, on_stopped=OK),
    "dependent": with_dependent(plain),
    "dependent of a failure": with_dependent(fail),
    "dependent that allows failure": with_dependent(fail, allow_failure=True),
    "dependent at the front": with_dependent(plain, enqueue_at_front=True),
    "depends on two": dependent_of_two,
    "rate limit": one(plain, rate_limit=RateLimit("limit", 1)),
    "rate limit and another waits": two_under_a_limit,
    "rate limit and fails": one(fail, rate_limit=RateLimit("limit", 1)),
    "group": of_a_group,
    "timeout -1": one(plain, job_timeout=-1),
    "at the front": with_an_order,
    "hash of another client": without_a_status,
    "function that is not there": lambda queue: queue.enqueue("nowhere.at_all", job_id="one"),
}


WAYS: dict[str, dict[str, Any]] = {
    "by one script": {"fast_path": "auto", "isolation": ("worker",)},
    "in RQ's way": {"fast_path": "off", "isolation": ("worker",)},
    "in a child": {"fast_path": "auto", "isolation": ("fork",)},
}


@pytest.fixture
def pictures(crew, connection, valkey, tmp_path, monkeypatch):
    """`pictures(run, given)`: what `run` makes of the jobs given, as pictures of all keys, those
    that the jobs have taken and then one when all is over."""
    monkeypatch.setenv("KEYS_SOCKET", str(valkey.socket))
    during = tmp_path / "during"
    monkeypatch.setenv("KEYS_DURING", str(during))

    def pictures(run: Callable[[], None], given: Given) -> tuple[list[Picture], Picture]:
        connection.flushall()
        during.write_bytes(b"")
        given(Queue(connection=connection))
        run()
        return list(_unpickled(during)), picture(connection)

    return pictures


def _unpickled(path: Path) -> Iterator[Picture]:
    with path.open("rb") as file:
        while file.peek(1):
            yield pickle.load(file)


@pytest.fixture
def run_by_rq(crew, valkey):
    """`run_by_rq()`: RQ's worker works off what there is."""

    def run_by_rq(cls=SimpleWorker, meanwhile: Callable[[], object] = bool) -> None:
        def work() -> int:
            client = redis.Redis(unix_socket_path=str(valkey.socket))
            cls(["default"], name=NAME, connection=client).work(burst=True, logging_level=None)
            return 0

        crew.run(work, meanwhile)

    return run_by_rq


@pytest.fixture
def run_by_resqued(crew):
    """`run_by_resqued()`: the same by resqued's. settings: if not one script a job, in itself."""

    def run_by_resqued(meanwhile: Callable[[], object] = bool, **settings: Any) -> None:
        hand = crew.start(
            name=NAME, burst=True, wait=False, **{**WAYS["by one script"], **settings}
        )
        meanwhile()
        assert hand.gone() == 0

    return run_by_resqued


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_those_of_rq(pictures, run_by_rq, run_by_resqued, kind):
    during, after = pictures(run_by_rq, KINDS[kind])
    for way, settings in WAYS.items():
        run = functools.partial(run_by_resqued, **settings)
        ours_during, ours_after = pictures(run, KINDS[kind])
        assert_same(after, ours_after, way)
        assert len(ours_during) == len(during), f"{way} the jobs ran as often"
        for number, (theirs, own) in enumerate(zip(during, ours_during, strict=True), 1):
            assert_same(theirs, own, f"{way}, in job {number}", LASTING)


@pytest.fixture
def listener():
    """A server of HTTP; `listener.told` is what it was sent."""

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            server.told.append((self.path, self.rfile.read(size)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server: Any = HTTPServer(("127.0.0.1", 0), Listener)
    server.told = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("function", [plain, fail])
def test_webhooks(pictures, run_by_rq, run_by_resqued, listener, function):
    url = f"http://127.0.0.1:{listener.server_port}"
    hooks = [Webhook(f"{url}/{end}", end, method="POST") for end in ("finished", "failed")]
    given = one(function, webhooks=hooks, retry=Retry(1))
    during, after = pictures(run_by_rq, given)
    told = [path for path, _ in listener.told]
    assert len(told) == 1
    ours_during, ours_after = pictures(run_by_resqued, given)
    assert [path for path, _ in listener.told] == told * 2
    assert_same(after, ours_after, "webhooks")
    assert len(ours_during) == len(during)


@pytest.mark.parametrize("callback", [None, OK, BAD], ids=["none", "ok", "raises"])
def test_a_stopped_job(pictures, run_by_rq, crew, connection, gate, callback):
    """RQ's worker that forks is beside it: the other cannot stop a job."""
    doors = [gate(), gate()]

    def given(number: int) -> Given:
        return one(wait_at, str(doors[number]), on_stopped=callback, description="waits")

    def stop() -> None:
        doors[0].wait_until_reached()
        send_stop_job_command(connection, "one")

    _, after = pictures(functools.partial(run_by_rq, Worker, stop), given(0))

    def work() -> None:
        hand = crew.start(name=NAME, burst=True, wait=False)
        doors[1].wait_until_reached()
        hand.told(Order.STOP)
        assert hand.gone() == 0

    _, own = pictures(work, given(1))
    for each in (after, own):
        job = each["rq:job:one"].value
        del job["data"]  # it names the gate
        for name in ("ended_at", "last_heartbeat", "worker_name"):
            del job[name]  # RQ empties them: the parent of the job does not know
    del own["rq:results:one"].value[0]["execution_ended_at"]  # nor this
    del own["rq:worker:" + NAME].value["total_working_time"]
    assert_same(after, own, "stopped")


def test_a_job_that_deletes_itself_stays_deleted(pictures, run_by_rq, run_by_resqued):
    """Here RQ's worker makes the job anew, as if nobody had asked for that."""
    given = one(delete_itself)
    _, after = pictures(run_by_rq, given)
    _, own = pictures(run_by_resqued, given)
    assert "rq:job:one" in after
    assert not [key for key in own if "one" in key]
    assert {key for key in after if "one" not in key} - own.keys() <= {"rq:finished:default"}


class Newer(SimpleWorker):
    """As a release of RQ might be that writes more than this one."""

    def increment_successful_job_count(self, pipeline=None):
        super().increment_successful_job_count(pipeline)
        (pipeline or self.connection).hset("rq:job:one", "cost", "3")
        (pipeline or self.connection).expire("rq:queues", 1000)


def test_another_rq_is_noticed(pictures, run_by_rq, run_by_resqued):
    _, after = pictures(functools.partial(run_by_rq, Newer), one(plain))
    _, own = pictures(run_by_resqued, one(plain))
    assert differences(after, own) == [
        "rq:job:one, cost: RQ has '3', resqued None",
        "rq:queues: RQ's lives for 1000 s, resqued's good",
    ]
