"""One `rq worker` that loads the application first."""

from __future__ import annotations

import importlib
import sys

import redis
from rq import Worker

if __name__ == "__main__":
    url, queue, app = sys.argv[1:]
    importlib.import_module(app)
    Worker([queue], connection=redis.Redis.from_url(url)).work(logging_level="WARNING")
