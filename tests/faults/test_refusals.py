"""Redis answers, but not what one would like: refusals, limits, and everything forgotten."""

from __future__ import annotations

import re

from faults.load import are_finished, kinds, obeys, pids, under_way
from harness.waiting import wait_for


def refusals(connection):
    """How a real server is made to refuse, and to serve again."""

    def replica(stale):
        connection.config_set("replica-serve-stale-data", stale)
        connection.replicaof("127.0.0.1", 1)

    def master():
        connection.replicaof("NO", "ONE")
        connection.config_set("replica-serve-stale-data", "yes")

    return {
        "READONLY": (lambda: replica("yes"), master),
        "MASTERDOWN": (lambda: replica("no"), master),
        "OOM": (
            lambda: connection.config_set("maxmemory", 1),
            lambda: connection.config_set("maxmemory", 0),
        ),
    }


def test_refused_under_load_it_is_waited_for(start, load, held, once, connection):
    arbiter = start(3)
    before = pids(arbiter)
    ids = []
    for begin, end in refusals(connection).values():
        job, there = held()
        ids += [job.id, *load(20)]
        mark = arbiter.mark()
        begin()
        there.open()
        try:
            arbiter.wait_for("refuses: |not written yet|does not answer", after=mark)
            obeys(arbiter, 3)
        finally:
            end()
        once(arbiter, ids)
    assert before <= pids(arbiter)


ERRORS = (
    "LOADING the server is loading the dataset in memory",
    "CLUSTERDOWN the cluster is down",
    "MISCONF errors writing to the AOF file",
    "ERR whatever a proxy may say",
)


def test_any_error_of_the_server_is_waited_for(start, proxy, load, once):
    arbiter = start(2, "--redis", proxy.url, expect_errors="it is a cluster")
    ids = []
    for error in ERRORS:
        ids += load(10)
        proxy.answer(error)
        arbiter.wait_for(f"(WARNING|ERROR) .*{error.split(' ', 1)[1]}")
        proxy.answer("")
        once(arbiter, ids)
    assert " ended" not in arbiter.log()


def test_rights_that_are_missing_are_one_line_a_process(start, valkey, connection, load, once):
    rights = {"enabled": True, "passwords": ["+canary-np"], "keys": "*", "channels": "*"}
    connection.acl_setuser("app", categories=["+@all"], **rights)
    url = valkey.url.replace("unix://", "unix://app:canary-np@")
    arbiter = start(
        2, "--redis", url, expect_errors="refuses access|the steward cannot|did not boot"
    )
    connection.acl_setuser("app", categories=["+@all", "-@scripting"], **rights)
    ids = load(6)
    arbiter.wait_for("ERROR .*refuses access: .*correct the URL or the ACL", times=2)
    told = re.findall(r"ERROR (.*) redis .*refuses access", arbiter.log())
    assert len(told) == len(set(told)), "each process says it once in a minute"
    obeys(arbiter, 2)
    assert "Traceback" not in arbiter.log()
    assert "canary-np" not in arbiter.log()
    connection.acl_setuser("app", categories=["+@all"], reset=True, **rights)
    arbiter.signal("USR1")  # wakes those that wait a quarter of a minute between two tries
    once(arbiter, ids)


def test_connections_that_are_used_up_are_waited_for(start, load, once, connection):
    connection.config_set("maxclients", len(connection.client_list()) + 3)
    try:
        arbiter = start(5, wait=False)
        arbiter.wait_for("max number of clients reached|does not answer")
        once(arbiter, load(20))
    finally:
        connection.config_set("maxclients", 10000)
    arbiter.wait_for_workers(5)
    assert " ended" not in arbiter.log()


# --- Forgetful, shared -----------------------------------------------------------------------


def test_flushed_under_load_nobody_falls_over(start, load, held, connection):
    arbiter = start(3)
    before = pids(arbiter)
    job, there = held()
    load(60)
    under_way(arbiter)
    connection.flushall()
    connection.script_flush()
    there.open()
    wait_for(lambda: all(w["state"] == "idle" for w in arbiter.status()["workers"]), what="peace")
    arbiter.wait_for(f"WARNING .*job={job.id} is gone from redis")
    assert not connection.exists(job.key), "what was flushed is not brought back in part"
    began = len(arbiter.ledger.started())
    after = load(12)
    wait_for(lambda: len(arbiter.ledger.started()) == began + 12, what="new jobs to be done")
    wait_for(lambda: are_finished(connection, after), what="their outcomes")
    assert pids(arbiter) == before


def test_evicted_jobs_are_told_of_and_passed_over(start, load, connection):
    ids = load(9)
    evicted = ids[::3]
    connection.delete(*[f"rq:job:{job_id}" for job_id in evicted])
    arbiter = start(2)
    wait_for(lambda: len(arbiter.ledger.ended()) == 6, what="the others to be done")
    for job_id in evicted:
        arbiter.wait_for(f"WARNING .*job={job_id} of queue=\\S+ is gone")
    assert not connection.hgetall("rq:resqued:claims")


def test_two_arbiters_share_the_queues(start, load, connection):
    """Even when they give their workers the same names."""
    one, two = start(2, "--name", "web"), start(2, "--name", "web")
    ids = load(60)
    wait_for(lambda: len(one.ledger.ended()) + len(two.ledger.ended()) == 60, 20, "all jobs")
    assert one.ledger.ended(), "both work"
    assert two.ledger.ended()
    assert sorted(one.ledger.started() + two.ledger.started()) == sorted(ids)
    assert one.stop("TERM") == 0
    more = load(10)
    wait_for(lambda: set(more) <= set(two.ledger.ended()), what="the other to go on alone")
    assert two.stop("QUIT") == 0
    assert kinds(connection, [*ids, *more]) == {"finished"}
