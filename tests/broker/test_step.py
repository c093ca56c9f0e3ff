"""One step: the outcome of one job and the start of the next, exactly once."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import ResponseError

from broker.conftest import EXECUTIONS, HANDS, OWNER, WORKER, contents
from resqued.broker.hand import GIVE_BACK, RUNNING, STEP
from resqued.broker.wire import Wire

QUEUES = ["rq:queue:high", "rq:queue:q"]


class Network(Wire):
    """A wire that keeps what it has sent, to send it again later, as a network may."""

    def __init__(self, *args):
        super().__init__(*args)
        self.sent = []

    def ask(self, request):
        self.sent.append(request)
        return super().ask(request)

    def late(self, number):
        return super().ask(self.sent[number])


@pytest.fixture
def network(connection):
    return Network(connection, STEP)


def test_takes_by_priority_and_starts(hand, enqueue, connection):
    enqueue("low")
    enqueue("first", "second", queue="high")
    step = hand.step(QUEUES)
    assert (step.what, step.job_id, step.queue_key) == ("job", "first", "rq:queue:high")
    assert step.hash[b"data"] == b"d"
    both = f"first:{step.execution_id}"
    assert connection.lrange("rq:queue:high", 0, -1) == [b"second"]
    assert connection.zscore("rq:wip:high", both) == pytest.approx(step.at.timestamp() + 150, abs=1)
    assert connection.hget("rq:job:first", "status") == b"started"
    assert connection.hget(WORKER, "state") == b"busy"
    assert connection.smembers(EXECUTIONS) == {both.encode()}
    assert connection.hget(RUNNING, both) == f'["{OWNER}","high"]'.encode()
    assert connection.ttl("rq:job:first") == -1
    assert 0 < connection.ttl(f"rq:execution:{both}") <= 150


def test_ends_one_and_starts_the_next(outcome, hand, enqueue, connection):
    enqueue("a", "b")
    first = hand.step(QUEUES)
    second = hand.step(QUEUES, outcome("a", first.execution_id))
    assert (second.ended, second.job_id) == ("written", "b")
    last = hand.step([], outcome("b", second.execution_id))
    assert (last.ended, last.what) == ("written", "none")
    kept = contents(connection)
    assert kept[HANDS] == {OWNER.encode(): b"3 -1"}
    assert kept["rq:finished:q"] == [(b"a", 5.0), (b"b", 5.0)]
    assert kept[WORKER][b"state"] == b"idle"
    assert not [key for key in kept if "execution" in key or "wip" in key or "running" in key]


def test_nothing_there_changes_nothing(hand, connection):
    before = contents(connection)
    assert [hand.step(QUEUES).what for _ in range(3)] == ["none"] * 3
    assert contents(connection) == before


def test_suspended(outcome, hand, enqueue, connection):
    enqueue("a")
    first = hand.step(QUEUES)
    enqueue("b")
    connection.set("rq:suspended", 1)
    step = hand.step(QUEUES, outcome("a", first.execution_id))
    assert (step.ended, step.what) == ("written", "suspended")
    assert connection.lrange("rq:queue:q", 0, -1) == [b"b"]


# What a network may do.


def test_a_step_whose_reply_was_lost_answers_the_same_again(
    outcome, hand_of, network, enqueue, connection
):
    hand = hand_of(network)
    enqueue("a", "b")
    first = hand.step(QUEUES)
    ending = outcome("a", first.execution_id)
    token = hand.make_token()
    hand.step(QUEUES, ending)
    before = contents(connection)
    again = network.late(-1)
    assert again[:4] == [b"1", b"job", b"b", b"rq:queue:q"]
    assert contents(connection) == before
    assert connection.zrange("rq:wip:q", 0, -1) == [f"b:{token}".encode()]


def test_a_late_copy_does_nothing(outcome, hand_of, network, enqueue, connection):
    hand = hand_of(network)
    enqueue("a", "b", "c")
    first = hand.step(QUEUES)
    second = hand.step(QUEUES, outcome("a", first.execution_id))
    hand.step([], outcome("b", second.execution_id))
    before = contents(connection)
    for number in (-2, -3):
        assert network.late(number) == [b"stale"]
    assert contents(connection) == before


def test_the_first_copy_of_a_step_that_was_repeated_comes_late(
    hand_of, network, valkey, enqueue, connection
):
    """The second has found nothing; the first, which comes after it and after a push, must not
    start a job of which an idle worker does not know."""
    hand = hand_of(network)
    hand.step(QUEUES)
    first = network.sent[-1]
    hand._sent = True  # no reply has come
    assert hand.step(QUEUES).what == "none"
    enqueue("a")
    before = contents(connection)
    assert network.ask(first) == [b"0", b"again"]
    assert contents(connection) == before
    assert hand.step(QUEUES).job_id == "a"


def test_without_a_hand_a_step_does_nothing(outcome, hand, enqueue, connection):
    enqueue("a")
    first = hand.step(QUEUES)
    connection.hdel(HANDS, OWNER)
    enqueue("b")
    before = contents(connection)
    step = hand.step(QUEUES, outcome("a", first.execution_id))
    assert (step.ended, step.what) == ("", "unknown")
    assert contents(connection) == before


def test_an_execution_that_somebody_else_has_ended(outcome, hand, enqueue, connection):
    enqueue("a", "b")
    first = hand.step(QUEUES)
    connection.zrem("rq:wip:q", f"a:{first.execution_id}")
    before = contents(connection)
    assert hand.step(QUEUES, outcome("a", first.execution_id)).ended == "refused"
    assert contents(connection) == before


def test_a_hand_that_a_failover_has_brought_back(outcome, hand, enqueue, connection):
    enqueue("a", "b", "c")
    first = hand.step(QUEUES)
    old = connection.hget(HANDS, OWNER)
    second = hand.step(QUEUES, outcome("a", first.execution_id))
    connection.hset(HANDS, OWNER, old)
    assert hand.step(QUEUES, outcome("b", second.execution_id)).ended == "refused"
    step = hand.step(QUEUES)
    assert (step.what, step.job_id) == ("other", "a")
    assert step.execution_id == first.execution_id
    assert connection.lrange("rq:queue:q", 0, -1) == [b"c"]


# What Redis may refuse.

KEYS = {
    "running": RUNNING,
    "wip": "rq:wip:q",
    "executions of the job": "rq:executions:b",
    "executions of the worker": EXECUTIONS,
    "worker": WORKER,
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_job_whose_start_meets_a_wrong_type_is_left_to_rqs_way(hand, enqueue, connection, key):
    enqueue("b")
    connection.delete(key)
    connection.set(key, "odd")
    before = contents(connection)
    assert hand.step(QUEUES).what == "unusual"
    assert contents(connection) == before


ENDS = {
    "job": "rq:job:a",
    "results": "rq:results:a",
    "finished": "rq:finished:q",
    "running": RUNNING,
    "executions": "rq:executions:a",
    "worker": WORKER,
    "executions of the worker": EXECUTIONS,
}


@pytest.mark.parametrize("key", ENDS.values(), ids=ENDS)
def test_an_outcome_that_meets_a_wrong_type_is_left_to_rqs_way(
    outcome, hand, enqueue, connection, key
):
    enqueue("a", "b")
    first = hand.step(QUEUES)
    connection.delete(key)
    connection.set(key, "odd")
    before = contents(connection)
    step = hand.step(QUEUES, outcome("a", first.execution_id))
    assert (step.ended, step.what) == ("refused", "refused")
    assert key in step.why
    assert contents(connection) == before


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "with dependents"])
def test_what_only_rqs_own_code_can_end(outcome, hand, enqueue, connection, gone):
    enqueue("a")
    first = hand.step(QUEUES)
    if gone:
        connection.delete("rq:job:a")
    else:
        connection.sadd("rq:job:a:dependents", "b")
    step = hand.step(QUEUES, outcome("a", first.execution_id))
    assert step.ended == "refused"
    assert connection.hget(HANDS, OWNER).startswith(b"1 =0 ")


UNUSUAL = {
    "no data": ("a", {"data": None}),
    "another queue's": ("a", {"origin": "other"}),
    "a timeout of 400 digits": ("a", {"timeout": "9" * 400}),
    "a timeout that is none": ("a", {"timeout": "soon"}),
    "an id with a blank": ("a b", {}),
    "a long id": ("a" * 300, {}),
    "a thousand fields": ("a", {f"field{number}": "" for number in range(1000)}),
}


@pytest.mark.parametrize(("job_id", "fields"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_jobs_are_left_to_rqs_way(hand, enqueue, connection, job_id, fields):
    enqueue(job_id, **{name: value or "" for name, value in fields.items()})
    if None in fields.values():
        connection.hdel(f"rq:job:{job_id}", *fields)
    before = contents(connection)
    assert hand.step(QUEUES).what == "unusual"
    assert contents(connection) == before


def test_many_fields(hand, enqueue):
    enqueue("a", **{f"field{number}": "x" for number in range(990)})
    assert len(hand.step(QUEUES).hash) == 994


def test_no_memory(outcome, hand, enqueue, connection, valkey):
    enqueue("a", "b")
    first = hand.step(QUEUES)
    before = contents(connection)
    connection.config_set("maxmemory", 1)
    with pytest.raises(ResponseError):
        hand.step(QUEUES, outcome("a", first.execution_id))
    assert contents(connection) == before
    connection.config_set("maxmemory", 0)
    step = hand.step(QUEUES, outcome("a", first.execution_id))
    assert (step.ended, step.job_id) == ("written", "b")


COMMANDS = sorted(
    {"hset", "zadd", "expire", "sadd", "persist", "hincrby", "xadd", "hdel", "del", "zrem", "srem"}
    | {"lpop", "hgetall", "exists", "zscore", "type", "lindex", "hget"}
)


@pytest.mark.parametrize("denied", COMMANDS)
def test_a_command_that_is_denied_midway_is_made_up_for(
    outcome, hand_of, enqueue, connection, valkey, denied
):
    """What the repeat leaves is what a step that met no refusal would have left."""
    enqueue("a", "b")
    connection.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    client = redis.Redis(unix_socket_path=str(valkey.socket), username="limited", password="x")
    hand = hand_of(Wire(client, STEP))
    first = hand.step(QUEUES)
    connection.acl_setuser("limited", commands=[f"-{denied}"])
    ended = ""
    for _ in range(3):
        try:
            step = hand.step(QUEUES, None if ended else outcome("a", first.execution_id))
        except ResponseError as error:
            assert "permission" in str(error)
        else:
            assert step.what in ("again", "unusual")
            ended = ended or step.ended
    connection.acl_setuser("limited", commands=["+@all"])
    step = hand.step(QUEUES, None if ended else outcome("a", first.execution_id))
    ended = ended or step.ended
    assert ended == "written"
    if step.what == "again":
        step = hand.step(QUEUES)
    assert step.job_id == "b"
    kept = contents(connection)
    assert len(kept["rq:results:a"]) == 1
    assert kept[WORKER][b"successful_job_count"] == b"1"
    assert kept["rq:finished:q"] == [(b"a", 5.0)]
    assert kept["rq:job:b"][b"status"] == b"started"
    both = f"b:{step.execution_id}".encode()
    assert kept[EXECUTIONS] == {both}
    assert [member for member, _ in kept["rq:wip:q"]] == [both]
    assert list(kept[RUNNING]) == [both]
    assert "rq:queue:q" not in kept
    connection.acl_deluser("limited")
    client.close()


# Giving back.


@pytest.fixture
def give_back(connection):
    run = connection.register_script(GIVE_BACK)

    def give_back(execution_id="", counter="", limit=3, dead=False):
        words = [OWNER, execution_id, "rq", counter, limit, int(dead)]
        return [raw.decode() for raw in run(keys=[HANDS, RUNNING, EXECUTIONS], args=words)]

    return give_back


def test_given_back_as_if_it_had_not_been_taken(hand, enqueue, connection, give_back):
    enqueue("a", "b", ttl="1000")
    before = contents(connection)
    step = hand.step(QUEUES)
    answer = give_back(step.execution_id)
    assert answer == ["back", "a", "rq:queue:q", step.execution_id]
    after = contents(connection)
    assert connection.lrange("rq:queue:q", 0, -1) == [b"a", b"b"]
    assert 0 < connection.ttl("rq:job:a") <= 1000
    assert after[HANDS] == {OWNER.encode(): b"1 -0"}
    assert after["rq:job:a"][b"status"] == b"queued"
    assert after.keys() - before.keys() == {WORKER}
    assert give_back(step.execution_id) == ["nothing"]


def test_given_back_and_counted_up_to_a_limit(hand, enqueue, connection, give_back):
    enqueue("a")
    for times in (1, 2):
        hand.step(QUEUES)
        assert give_back(counter="deaths")[0] == "back"
        assert connection.hget("rq:job:a", "deaths") == b"%d" % times
    step = hand.step(QUEUES)
    assert give_back(counter="deaths") == ["limit", "a", "rq:queue:q", step.execution_id]
    assert connection.zcard("rq:wip:q") == 1


def test_the_hand_of_a_dead_worker_goes(hand, enqueue, connection, give_back):
    enqueue("a")
    hand.step(QUEUES)
    assert give_back(dead=True)[0] == "back"
    assert not connection.exists(HANDS)
    hand.register(connection)
    assert give_back(dead=True) == ["nothing"]
    assert not connection.exists(HANDS)
    assert hand.step(QUEUES).what == "unknown"


def test_put_back_also_if_the_registry_was_lost(hand, enqueue, connection, give_back):
    enqueue("a")
    hand.step(QUEUES)
    connection.delete("rq:wip:q")
    assert give_back()[0] == "back"
    assert connection.lrange("rq:queue:q", 0, -1) == [b"a"]


def test_what_somebody_else_has_ended_is_not_put_back(hand, enqueue, connection, give_back):
    enqueue("a")
    step = hand.step(QUEUES)
    connection.zrem("rq:wip:q", f"a:{step.execution_id}")
    connection.hset("rq:job:a", "status", "canceled")
    assert give_back()[0] == "ended"
    assert not connection.exists("rq:queue:q", RUNNING, EXECUTIONS)
