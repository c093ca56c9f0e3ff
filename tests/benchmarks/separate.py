"""One `rq worker` that loads the application first."""

from __future__ import annotations

import sys

import redis
from rq import Worker

from benchmarks import heavy

if __name__ == "__main__":
    url, queue = sys.argv[1:]
    assert heavy.TABLE
    Worker([queue], connection=redis.Redis.from_url(url)).work(logging_level="WARNING")
