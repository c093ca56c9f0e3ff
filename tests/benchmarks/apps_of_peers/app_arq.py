"""arq: coroutines, a hundred at a time, its queue asked a hundred times a second.

By default it asks twice a second for ten jobs, which would be twenty a second.
"""

import asyncio
import os

from arq import create_pool
from arq.connections import RedisSettings

BROKER = RedisSettings.from_dsn(os.environ["BROKER"])


async def nothing(context):
    return 1


class WorkerSettings:
    functions = (nothing,)
    redis_settings = BROKER
    max_jobs = 100
    poll_delay = 0.01


async def _enqueue(count):
    pool = await create_pool(BROKER)
    for _ in range(count):
        await pool.enqueue_job("nothing")
    await pool.aclose()


def enqueue(count):
    asyncio.run(_enqueue(count))
