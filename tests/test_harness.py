"""The harness itself: its oracle and its proxy say what is true."""

from __future__ import annotations

import pytest
import redis
from rq import Queue, SimpleWorker

from harness import jobs
from harness.oracle import assert_one_place_each, places
from harness.waiting import scaled


def test_each_job_is_found_where_rq_put_it(connection, queue):
    low = queue("low")
    done = low.enqueue(jobs.noop)
    failed = low.enqueue(jobs.fail)
    SimpleWorker([low], connection=connection).work(burst=True)
    waiting = low.enqueue(jobs.noop)
    deferred = low.enqueue(jobs.noop, depends_on=waiting)
    ids = [done.id, failed.id, waiting.id, deferred.id]

    assert assert_one_place_each(connection, ids) == {
        done.id: "finished:low",
        failed.id: "failed:low",
        waiting.id: "queue:low",
        deferred.id: "deferred:low",
    }


def test_a_lost_and_a_doubled_job_are_noticed(connection, queue):
    low = queue("low")
    lost, twice = low.enqueue(jobs.noop), low.enqueue(jobs.noop)
    connection.lrem("rq:queue:low", 0, lost.id)
    connection.zadd("rq:finished:low", {twice.id: 1})

    assert places(connection, [twice.id]) == {twice.id: ["queue:low", "finished:low"]}
    with pytest.raises(AssertionError, match=f"lost: .'{lost.id}'"):
        assert_one_place_each(connection, [lost.id])
    with pytest.raises(AssertionError, match="more than one place"):
        assert_one_place_each(connection, [twice.id])


def test_an_id_in_flight_is_in_one_place(connection, queue):
    Queue("low", connection=connection).enqueue(jobs.noop, job_id="a")
    connection.lmove("rq:queue:low", "rq:queue:low:intermediate")

    assert places(connection, ["a"]) == {"a": ["taken:low"]}


def test_the_proxy_passes_on_cuts_and_loses_replies(proxy, connection):
    client = redis.Redis.from_url(proxy.url, retry=None, socket_timeout=5)
    client.set("key", "1")
    assert connection.get("key") == b"1"

    proxy.swallow_reply(b"INCR")
    with pytest.raises(redis.ConnectionError):
        client.incr("key")
    assert proxy.swallowed.wait(scaled(5))
    assert connection.get("key") == b"2", "the server did it"

    proxy.cut_before(b"INCR")
    with pytest.raises(redis.ConnectionError):
        client.incr("key")
    assert connection.get("key") == b"2", "the server has not seen it"

    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.accept()
    assert client.ping()
    client.close()


def test_the_server_keeps_its_data_over_restarts_and_kills(valkey, connection):
    connection.set("key", "1")
    valkey.restart()
    assert connection.get("key") == b"1"
    valkey.kill()
    assert not valkey.running
    valkey.start()
    assert connection.get("key") == b"1"
