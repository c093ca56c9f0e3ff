"""Dramatiq: processes with threads, with results."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BROKER"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["RESULTS"]), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def nothing():
    return 1


def enqueue(count):
    for _ in range(count):
        nothing.send()
