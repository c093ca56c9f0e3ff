"""A load that enqueues as the recipe says, and a master that is killed under it."""

from __future__ import annotations

import threading

import redis
from redis.sentinel import Sentinel
from rq import Queue
from rq.job import Job

from harness import jobs
from harness.redis_cluster import PASSWORD, Replicated
from harness.waiting import pause, scaled, wait_for

JOBS = 60


class Load(threading.Thread):
    """Enqueues jobs one after another by the sentinels, each until a replica has it too."""

    def __init__(self, replicated: Replicated) -> None:
        super().__init__()
        secure = {"ssl": True, **replicated.tls} if replicated.tls else {}
        hosts = [("127.0.0.1", each.port) for each in replicated.sentinels]
        sentinel = Sentinel(hosts, sentinel_kwargs=secure, password=PASSWORD, **secure)
        self.connection = sentinel.master_for("main", socket_timeout=2)
        self.safe: list[str] = []

    def run(self) -> None:
        for number in range(JOBS):
            while not self._enqueue(f"job-{number}"):
                pause(0.1)

    def _enqueue(self, name: str) -> bool:
        try:
            if not Job.exists(name, self.connection):
                Queue(connection=self.connection).enqueue(jobs.sleep, 0.02, job_id=name)
            if not self.connection.wait(1, 1000):
                return False
        except redis.RedisError:
            return False
        self.safe.append(name)
        return True


def survive(replicated, resqued):
    """Kill the master while jobs are enqueued and run; all that were safe are finished."""
    arbiter = resqued(
        *("-n", 3, "--loop-timeout", 12, "--dead-after", 8),
        expect_errors="Error|READONLY|Traceback",
        RQ_REDIS_URL=replicated.url(),
    )
    before = {worker.pid for worker in arbiter.wait_for_workers(3).values()}
    load = Load(replicated)
    load.start()
    wait_for(lambda: len(arbiter.ledger.ended()) >= 10, 30, "some jobs to be done")
    old = replicated.master()
    old.kill()
    wait_for(lambda: replicated.master() is not old, 60, "the sentinels to choose another master")
    load.join(scaled(60))
    assert len(load.safe) == JOBS

    def all_finished():
        try:
            fetched = Job.fetch_many(load.safe, load.connection)
            return all(job and job.get_status() == "finished" for job in fetched)
        except redis.RedisError:  # the sentinels still close the connections of the old master
            return False

    wait_for(all_finished, 60, "all jobs to be finished on the new master")
    assert {worker.pid for worker in arbiter.wait_for_workers(3).values()} == before
    assert arbiter.stop("QUIT") == 0
    load.connection.close()
