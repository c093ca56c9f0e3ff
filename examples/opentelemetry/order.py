"""Order an article: `python order.py 7`. Stands for a request of the web application."""

import os
import sys

from opentelemetry import trace
from redis import Redis
from rq import Queue
from shop import tracing

if len(sys.argv) < 2:
    sys.exit(__doc__)

provider = tracing.start("shop-web")
queue = Queue(connection=Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://localhost:6379")))
with trace.get_tracer("shop").start_as_current_span("POST /orders"):
    for function in sys.argv[2:] or ["pay"]:
        job = tracing.enqueue(queue, f"shop.tasks.{function}", int(sys.argv[1]))
        print(job.id)
provider.shutdown()
