"""examples/acl: a server with these users, and each of them at work."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import redis
from redis.exceptions import NoPermissionError
from rq import Queue, Retry, Worker
from rq.job import Job

from harness import jobs
from harness.command import TESTS
from harness.waiting import wait_for
from recipes.conftest import EXAMPLES
from server.conftest import directory, make_server  # noqa: F401 (fixtures)
from server.test_rights import works

FILE = EXAMPLES / "acl" / "users.acl"
DEFAULT = "user default off"


def rights(user):
    """The words of a user's line."""
    lines = {line.split()[1]: line.split()[2:] for line in FILE.read_text().splitlines()}
    return lines[user]


@pytest.fixture
def users(make_server, tmp_path):  # noqa: F811
    """A server with the file; the test itself came in before `default` was switched off."""
    text = FILE.read_text()
    assert DEFAULT in text
    (tmp_path / "users.acl").write_text(text.replace(DEFAULT, "user default on nopass ~* &* +@all"))
    server = make_server("users", "--aclfile", str(tmp_path / "users.acl"))
    admin = server.connect()
    secret = {"username": "admin", "password": "of the test"}
    admin.execute_command("ACL", "SETUSER", "admin", "on", ">of the test", "~*", "&*", "+@all")
    admin.execute_command("ACL", "SETUSER", "default", "off")
    yield server, server.connect(**secret)


def connected(server, user, **login):
    return redis.Redis(port=server.port, username=user, **login)


def test_the_file_has_a_user_who_may_read_it_anew(users):
    server, _ = users
    with connected(server, "admin", password="password") as client:
        client.acl_load()
        assert client.acl_whoami() == "admin"


def test_nobody_comes_in_without_a_password(users):
    with connected(users[0], None) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with (
        connected(users[0], "web", password="guess") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_workers_do_all_with_these_rights(users, resqued, gate):
    server, admin = users
    arbiter = resqued(
        *("-n", 2, "--queue", "default", "--queue", "*", "--maintenance-interval", 2),
        RQ_REDIS_URL=f"redis://resqued:password@127.0.0.1:{server.port}",
        expect_errors="Job stopped|stack|rq.worker|Traceback|told to fail",
    )
    works(arbiter, Queue(connection=admin), admin, gate)
    assert "no permission" not in arbiter.log().lower()
    denied = {entry["reason"] for entry in admin.acl_log()}
    assert denied <= {"channel"}, "but for a narrower pattern, tried first"
    (documented,) = re.findall(
        r"^ACL SETUSER resqued on >PASSWORD (.*)$",
        (TESTS.parent / "resqued/CONFIGURATION.md").read_text(),
        re.MULTILINE,
    )
    assert [word for word in rights("resqued") if word[0] in "~&+-"] == documented.split()


def test_who_enqueues_can_do_that_and_no_more(users, resqued):
    server, admin = users
    arbiter = resqued("-n", 1, "--redis", f"redis://resqued:password@127.0.0.1:{server.port}")
    arbiter.wait_for_workers(1)
    with connected(server, "web", password="password") as client:
        job = Queue(connection=client).enqueue(jobs.noop, retry=Retry(2))
        as_seen = type(job).fetch(job.id, connection=admin)
        wait_for(lambda: as_seen.get_status() == "finished", 20, "the job")
        for forbidden in (job.refresh, Queue(connection=client).get_job_ids, client.flushall):
            with pytest.raises(NoPermissionError):
                forbidden()
    for command in [word[1:] for word in rights("web") if word.startswith("+")]:
        admin.execute_command("ACL", "SETUSER", "web", f"-{command}")
        with connected(server, "web", password="password") as client:
            queue = Queue(connection=client)
            with pytest.raises(redis.ResponseError):
                queue.enqueue(jobs.noop)
        admin.execute_command("ACL", "SETUSER", "web", f"+{command}")


def test_who_looks_changes_nothing(users, resqued):
    server, admin = users
    arbiter = resqued("-n", 2, "--redis", f"redis://resqued:password@127.0.0.1:{server.port}")
    arbiter.wait_for_workers(2)
    Queue("other", connection=admin).enqueue(jobs.noop)
    with connected(server, "monitor", password="password") as client:
        assert Queue("other", connection=client).count == 1
        assert len(Worker.all(connection=client)) == 2
        (there,) = Queue("other", connection=client).jobs
        assert there.func_name == "harness.jobs.noop"
        failed = Queue("other", connection=client).failed_job_registry
        assert failed.get_job_count(cleanup=False) == 0
        for queue in Queue.all(connection=client):
            with pytest.raises(NoPermissionError):
                queue.enqueue(jobs.noop)
            with pytest.raises(NoPermissionError):
                queue.empty()


@pytest.mark.parametrize(
    ("more", "act"),
    [
        ("+lpush", lambda queue, _: queue.enqueue(jobs.noop, at_front=True)),
        (
            "~rq:scheduled:* +zadd",
            lambda queue, _: queue.enqueue_in(timedelta(seconds=60), jobs.noop),
        ),
        (
            "~rq:results:* +hgetall +hget +exists +xrevrange",
            lambda queue, job: Job.fetch(job.id, queue.connection).return_value(),
        ),
    ],
)
def test_what_more_takes(users, more, act):
    """As the page says."""
    server, admin = users
    assert f"`{more}`" in " ".join((EXAMPLES / "acl" / "README.md").read_text().split())
    with connected(server, "web", password="password") as client:
        queue = Queue(connection=client)
        job = queue.enqueue(jobs.noop)
        with pytest.raises(redis.ResponseError):
            act(queue, job)
        admin.execute_command("ACL", "SETUSER", "web", *more.split())
        act(queue, job)
