"""A service that sentinels watch over: they name its master, at the start and after a failover."""

from __future__ import annotations

import re

import pytest
from rq import Queue
from rq.command import send_stop_job_command

from harness import jobs
from harness.sentinels import Sentinels, leads
from harness.waiting import wait_for
from resqued.redis_url import SentinelService, parse_sentinel, sentinel_url


@pytest.fixture
def sentinels(pair, directory):
    """Three, over the pair, as service `main`."""
    sentinels = Sentinels(directory, "main", pair[0])
    yield sentinels
    sentinels.close()


@pytest.fixture
def locked(pair, directory):
    """One, which wants a password."""
    sentinels = Sentinels(directory, "main", pair[0], count=1, password="canary-s")
    yield sentinels
    sentinels.close()


def are_finished(queue, ids):
    return all(queue.fetch_job(job_id).get_status() == "finished" for job_id in ids)


def test_a_failover_under_load(pair, sentinels, gate, resqued):
    """The master goes; its replica has all that it had (it waits for it when it shuts down)."""
    old, new = pair
    arbiter = resqued(
        *("-n", 3, "-s", "--loop-timeout", 12, "--dead-after", 8),
        *("--redis", f"redis+sentinel://{sentinels.hosts}/main/0"),
        expect_errors="Job stopped|stack|failed job|rq.worker|Traceback",
    )
    before = {worker.pid for worker in arbiter.wait_for_workers(3).values()}
    arbiter.wait_for(f" INFO .*redis master of main is 127.0.0.1:{old.port}")
    steward = arbiter.wait_for_steward()
    door = gate()
    queue = Queue(connection=old.connect())
    ids = [queue.enqueue(jobs.wait_at, str(door)).id]
    door.wait_until_reached()
    ids += [queue.enqueue(jobs.sleep, 0.2).id for _ in range(40)]
    wait_for(lambda: len(arbiter.ledger.ended()) >= 5, 20, "some to be done")

    old.stop()
    door.open()
    wait_for(lambda: sentinels.master == new.port, 40, "the sentinels to name another master")
    arbiter.wait_for(f" INFO .*redis master of main is 127.0.0.1:{new.port}", timeout=20)
    queue = Queue(connection=new.connect())
    ids += [queue.enqueue(jobs.noop).id for _ in range(10)]
    wait_for(lambda: are_finished(queue, ids), 40, "all jobs to be finished")
    assert sorted(arbiter.ledger.ended()) == sorted(ids), "each once"
    there = gate()
    stopped = queue.enqueue(jobs.sleep, 60, str(there))
    there.wait_until_reached()

    def is_stopped():
        send_stop_job_command(queue.connection, stopped.id)
        return stopped.get_status() == "stopped"

    wait_for(is_stopped, 20, "stop-job to be heard")
    assert arbiter.stewards()[0].pid == steward.pid
    still = {worker.pid for worker in arbiter.wait_for_workers(3).values()}
    assert len(before & still) >= 2, "only the worker whose job was stopped is replaced"


def test_a_switch_while_the_master_lives(pair, sentinels, resqued):
    """As for maintenance. What the old one takes in its last moments does not come over."""
    arbiter = resqued(
        *("-n", 2, "--loop-timeout", 12, "--dead-after", 8),
        *("--redis", f"redis+sentinel://{sentinels.hosts}/main"),
    )
    arbiter.wait_for_workers(2)
    old = leads(pair, sentinels.master)
    sentinels.fail_over()
    wait_for(lambda: sentinels.master != old.port, 40, "the sentinels to name another master")
    new = leads(pair, sentinels.master)
    wait_for(lambda: new.connect().info("replication")["role"] == "master", 20, "it to be it")
    queue = Queue(connection=new.connect())
    ids = [queue.enqueue(jobs.noop).id for _ in range(6)]
    wait_for(lambda: are_finished(queue, ids), 60, "jobs on the new master to be done")
    assert arbiter.wait_for(f"redis master of main is 127.0.0.1:{new.port}")


def test_credentials_and_a_database_as_rqs_settings_have_them(pair, locked, resqued):
    for server in pair:
        server.connect().execute_command(
            "ACL", "SETUSER", "app", "on", ">canary-m@/:", "~*", "&*", "+@all"
        )
    settings = {
        "INSTANCES": [("127.0.0.1", locked.ports[0])],
        "MASTER_NAME": "main",
        "DB": 2,
        "USERNAME": "app",
        "PASSWORD": "canary-m@/:",
        "SENTINEL_KWARGS": {"password": "canary-s"},
    }
    arbiter = resqued("-n", 1, "-v", config=f"redis = {settings!r}\n", RQ_REDIS_URL="")
    arbiter.wait_for_workers(1)
    client = pair[0].connect(db=2)
    job = Queue(connection=client).enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job")
    users = {entry["user"] for entry in client.client_list() if "steward" in entry["name"]}
    assert users == {"app"}
    assert "canary" not in arbiter.log()


def test_what_the_sentinels_do_not_know_or_tell_is_said(pair, locked, resqued):
    for query, service, told in (
        ("", "main", "want a login: add sentinel_username and sentinel_password"),
        ("?sentinel_password=canary-s", "mein", "know no service 'mein', but main"),
    ):
        arbiter = resqued(
            *("-n", 1, "--redis", f"redis+sentinel://{locked.hosts}/{service}{query}"),
            expect_errors="want a login",
        )
        arbiter.wait_for(told)
        assert "canary" not in arbiter.log()
        arbiter.stop()


# --- Spellings -------------------------------------------------------------------------------


def test_a_url():
    assert parse_sentinel("redis+sentinel://s1,s2:5/main") == SentinelService(
        (("s1", 26379), ("s2", 5)), "main"
    )
    assert parse_sentinel(
        "redis+sentinel://us%40r:p%2Fw:@[::1]:7,s2/ma%20in/3"
        "?sentinel_password=x%26y&socket_timeout=2&ssl=true"
    ) == SentinelService(
        (("::1", 7), ("s2", 26379)),
        "ma in",
        3,
        "us@r",
        "p/w:",
        {"socket_timeout": "2", "ssl": "true"},
        {"password": "x&y"},
    )
    told = parse_sentinel("redis+sentinel://s/m/?db=4&username=u&password=p")
    assert told == SentinelService((("s", 26379),), "m", 4, "u", "p")
    both = parse_sentinel("rediss+sentinel://s/m")
    assert both.options == both.sentinel_options == {"ssl": "true"}


@pytest.mark.parametrize(
    "url, problem",
    [
        ("redis+sentinel://s1:1,s2:2", "no service"),
        ("redis+sentinel://s1:1,s2:2/", "no service"),
        ("redis+sentinel:///main", "not HOST:PORT"),
        ("redis+sentinel://s1:1,,s2/main", "not HOST:PORT"),
        ("redis+sentinel://s1:70000/main", "not HOST:PORT"),
        ("redis+sentinel://user:pw@s1:x/main", "not HOST:PORT"),
        ("redis+sentinel://s1/main/zero", "no number"),
        ("redis+sentinel://s1/main?db=zero", "no number"),
    ],
)
def test_a_url_that_is_wrong(url, problem):
    with pytest.raises(ValueError, match=problem) as error:
        parse_sentinel(url)
    assert "pw" not in str(error.value)


def test_rqs_settings():
    assert sentinel_url({}) == "redis+sentinel://localhost:26379/mymaster/0"
    url = sentinel_url(
        {
            "INSTANCES": [("s1", 1), ["::1", "2"]],
            "MASTER_NAME": "ma/in",
            "DB": 4,
            "PASSWORD": "p@:/w",
            "SOCKET_TIMEOUT": 1.5,
            "SSL": True,
            "CONNECTION_KWARGS": {"ssl_ca_certs": "/a b", "username": "me"},
            "SENTINEL_KWARGS": {"username": "u", "password": "p&w", "ssl": True},
        }
    )
    assert parse_sentinel(url) == SentinelService(
        (("s1", 1), ("::1", 2)),
        "ma/in",
        4,
        "me",
        "p@:/w",
        {"socket_timeout": "1.5", "ssl": "true", "ssl_ca_certs": "/a b"},
        {"username": "u", "password": "p&w", "ssl": "true"},
    )


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"INSTANCES": "s1:26379"}, "INSTANCES is not a list"),
        ({"MASTER": "m"}, "MASTER: not among"),
        ({"CONNECTION_KWARGS": {"retry": object()}}, "retry is neither text nor a number"),
        ({"SENTINEL_KWARGS": "x"}, "SENTINEL_KWARGS is not a dict"),
    ],
)
def test_rqs_settings_that_are_wrong(settings, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        sentinel_url(settings)


def test_rqs_settings_module(pair, locked, resqued, tmp_path):
    """`-c MODULE`, as `rq worker` has it."""
    (tmp_path / "sentinel_settings.py").write_text(
        f"SENTINEL = {{'INSTANCES': [('127.0.0.1', {locked.ports[0]})], 'MASTER_NAME': 'main',"
        " 'SENTINEL_KWARGS': {'password': 'canary-s'}}\n"
    )
    arbiter = resqued("-n", 1, "-c", "sentinel_settings", "--path", tmp_path, RQ_REDIS_URL="")
    arbiter.wait_for_workers(1)
    arbiter.wait_for(f"redis master of main is 127.0.0.1:{pair[0].port}")
