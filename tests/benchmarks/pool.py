"""`rq worker-pool` with the application loaded before its workers are forked."""

from __future__ import annotations

import importlib
import sys

import redis
from rq.utils import import_worker_class
from rq.worker_pool import WorkerPool

if __name__ == "__main__":
    url, queue, workers, app, worker_class = sys.argv[1:]
    importlib.import_module(app)
    pool = WorkerPool(
        [queue],
        redis.Redis.from_url(url),
        num_workers=int(workers),
        worker_class=import_worker_class(worker_class),
    )
    pool.start(logging_level="WARNING")
