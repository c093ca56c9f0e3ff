"""Taskiq: coroutines, a list as the queue, with results."""

import asyncio
import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

results = RedisAsyncResultBackend(os.environ["RESULTS"])
broker = ListQueueBroker(url=os.environ["BROKER"]).with_result_backend(results)


@broker.task
def nothing():
    return 1


async def _enqueue(count):
    await broker.startup()
    for _ in range(count):
        await nothing.kiq()
    await broker.shutdown()


def enqueue(count):
    asyncio.run(_enqueue(count))
