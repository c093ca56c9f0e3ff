"""Which queue next, and how soon: idle workers, taking turns, `*`, suspension."""

from __future__ import annotations

import signal
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.retry import Retry
from rq.suspension import resume, suspend

from harness import jobs
from harness.waiting import pause, stays_true, wait_for
from resqued.broker.listener import Listener, Watched
from resqued.broker.queues import expand
from resqued.broker.resp import ErrorReply, Push, ReplyReader, encode
from resqued.scoreboard import Phase, Reason
from resqued.worker.idle import LOOK, TURN


def commands(connection):
    return connection.info("stats")["total_commands_processed"]


def quiet(connection):
    """Wait until no other client sends commands; how many there were by then."""

    def is_quiet():
        before = commands(connection)
        pause(0.5)
        return (now := commands(connection)) == before + 1 and now

    return wait_for(is_quiet, 20, "all to wait")


def stamp():
    return time.time()


def test_a_push_starts_a_job_before_a_look_would_find_it(crew, queue, ends):
    """How soon, `tests/benchmarks` tells. Each look is right after the job before."""
    crew.start("a", "b", "c")
    delays = []
    for _ in range(20):
        time.sleep(0.01)
        pushed = time.time()
        job = queue("c").enqueue(stamp)
        assert ends(job) == "finished"
        delays.append(job.latest_result().return_value - pushed)
    assert sorted(delays)[10] < LOOK / 2


def test_idle_worker_asks_nothing(crew, connection):
    hand = crew.start("a", "b")
    hand.reached(Phase.IDLE)
    before = quiet(connection)
    time.sleep(1)
    assert commands(connection) - before <= 2  # of this test


def test_one_push_wakes_one_worker(crew, queue, connection, ends, gate):
    hands = [crew.start("a", "b", wait=False) for _ in range(8)]
    for hand in hands:
        hand.reached(Phase.IDLE)
    quiet(connection)
    connection.config_resetstat()
    assert ends(queue("b").enqueue(jobs.nothing)) == "finished"
    time.sleep(0.2)
    calls = connection.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    assert calls <= 4
    doors = [gate() for _ in hands]
    for door in doors:
        queue("a").enqueue(jobs.wait_at, str(door))
    pids = {door.wait_until_reached(TURN / 2) for door in doors}
    assert pids == {hand.pid for hand in hands}, "each push found somebody"


def test_others_take_over_when_the_leader_is_killed(crew, queue, ends):
    hands = [crew.start("a") for _ in range(3)]
    for number in range(2):
        assert ends(queue("a").enqueue(jobs.nothing)) == "finished"
        hands[number].kill()
        assert ends(queue("a").enqueue(jobs.nothing), TURN / 2) == "finished"


def test_all_idle_workers_leave_at_once(crew):
    hands = [crew.start("a", wait=False) for _ in range(6)]
    for hand in hands:
        hand.reached(Phase.IDLE)
    for hand in hands:
        hand.signal(signal.SIGTERM)
    for hand in hands:
        assert hand.gone() == 0


def test_without_tracking_it_looks_often(crew, queue, ends, connection, valkey):
    connection.acl_setuser(
        "shy",
        enabled=True,
        passwords=["+pw"],
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-client|tracking"],
    )
    crew.url = f"unix://shy:pw@{valkey.socket}"
    try:
        hand = crew.start("a", "b")
        wait_for(lambda: "twice a second" in crew.log.read_text(), 10, "it to wait")
        assert ends(queue("b").enqueue(jobs.nothing)) == "finished", "long before its turn is over"
        hand.signal(signal.SIGTERM)
        assert hand.gone() == 0
        assert ":pw@" not in crew.log.read_text()
    finally:
        connection.acl_deluser("shy")


@pytest.mark.parametrize(
    ("queues", "named", "known", "expected"),
    [
        (["*"], ["*"], ["b", "a"], ["a", "b"]),
        (["high", "*"], ["high", "low", "*"], ["low", "x", "high"], ["high", "x"]),
        (["*", "low"], ["low", "*"], ["z", "low", "y"], ["y", "z", "low"]),
        (["a"], ["a"], ["b"], ["a"]),
    ],
)
def test_star(queues, named, known, expected):
    assert expand(queues, named, known) == expected


def test_star_serves_queues_that_come_later(crew, queue, ends, connection):
    hand = crew.start("high", "*")
    assert ends(queue("new").enqueue(jobs.nothing)) == "finished"
    assert ends(queue("newer").enqueue(jobs.nothing)) == "finished"
    key = f"rq:worker:{hand.record.name}"
    assert connection.hget(key, "queues") == b"high,new,newer"
    hand.signal(signal.SIGTERM)
    hand.gone()
    assert not connection.keys("rq:workers*")


def test_star_is_deregistered_everywhere_by_the_recovery(crew, queue, ends, connection):
    hand = crew.start("high", "*")
    assert ends(queue("new").enqueue(jobs.nothing)) == "finished"
    hand.reached(Phase.IDLE)
    hand.kill()
    assert hand.recovered() == ["nothing"]
    assert not connection.keys("rq:workers*")


def test_star_alone_with_no_queue_known(crew, queue, ends):
    crew.start("*")
    assert ends(queue("first").enqueue(jobs.nothing)) == "finished"


def test_suspend_and_resume(crew, queue, connection, ends, status):
    hand = crew.start()
    suspend(connection)
    job = queue().enqueue(jobs.nothing)
    key = f"rq:worker:{hand.record.name}"
    wait_for(lambda: connection.hget(key, "state") == b"suspended", 5, "state suspended")
    stays_true(lambda: status(job.id) == "queued", 0.3, "the job stays")
    resume(connection)
    assert ends(job) == "finished"


def test_suspended_worker_leaves(crew, connection):
    suspend(connection)
    hand = crew.start(wait=False)
    hand.reached(Phase.IDLE)
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0


def test_suspended_burst_ends(crew, connection, queue, status):
    suspend(connection)
    job = queue().enqueue(jobs.nothing)
    hand = crew.start(burst=True, wait=False)
    assert hand.gone() == 0
    assert (hand.record.reason, status(job.id)) == (Reason.BURST, "queued")


def test_round_robin(crew, queue, ledger):
    ids = {name: [queue(name).enqueue(jobs.noop).id for _ in range(2)] for name in "ab"}
    hand = crew.start("a", "b", burst=True, dequeue_strategy="round_robin", wait=False)
    hand.gone()
    assert ledger.ended() == [ids["a"][0], ids["b"][0], ids["a"][1], ids["b"][1]]


def test_resp():
    reader = ReplyReader()
    raw = b"+OK\r\n:3\r\n$3\r\nabc\r\n$-1\r\n_\r\n*-1\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"
    raw += b"-ERR no\r\n%1\r\n+a\r\n:1\r\n#t\r\n"
    values = [value for at in range(len(raw)) for value in reader.feed(raw[at : at + 1])]
    assert values == [
        "OK",
        3,
        b"abc",
        None,
        None,
        None,
        Push(["invalidate", [b"k"]]),
        ErrorReply("ERR no"),
        {"a": 1},
        True,
    ]
    assert encode("GET", b"k", 1) == b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\n1\r\n"
    with pytest.raises(ValueError, match="not the Redis protocol"):
        list(ReplyReader().feed(b"HTTP/1.1 400\r\n"))


@pytest.fixture
def listener(proxy):
    listener = Listener(redis.Redis.from_url(proxy.url), None, 5.0)
    listener.open()
    assert listener.tracking
    yield listener
    listener.close()


@pytest.mark.parametrize("lose", ["cut_before", "swallow_reply"])
def test_a_connection_lost_in_its_greeting_hears_of_pushes_the_next_time(proxy, lose):
    client = redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0))
    listener = Listener(client, None, 5.0)
    getattr(proxy, lose)(b"HELLO")
    listener.open()
    assert proxy.swallowed.is_set()
    assert listener.tracking
    listener.close()


def test_a_watch_that_is_refused_for_a_moment_is_no_watch(listener, proxy):
    proxy.answer("LOADING the dataset")
    with pytest.raises(Disconnected, match="LOADING"):
        listener.watch(Watched(["rq:queue:a"]))
    assert not listener.connected
    proxy.answer("")
    listener.open()
    assert listener.tracking
    assert not listener.watch(Watched(["rq:queue:a"]))


def test_a_watch_that_is_refused_for_good_leaves_looking_now_and_then(listener, proxy, log_lines):
    proxy.answer("NOPERM no permissions to run 'exists'")
    assert not listener.watch(Watched(["rq:queue:a"]))
    assert listener.connected
    assert not listener.tracking
    assert "does not let this worker watch its queues" in log_lines[0]
