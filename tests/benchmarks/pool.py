"""`rq worker-pool` with the application loaded before its workers are forked."""

from __future__ import annotations

import sys

import redis
from rq.worker_pool import WorkerPool

from benchmarks import heavy

if __name__ == "__main__":
    url, queue, workers = sys.argv[1:]
    assert heavy.TABLE
    pool = WorkerPool([queue], redis.Redis.from_url(url), num_workers=int(workers))
    pool.start(logging_level="WARNING")
