"""Huey: processes, with results. None is no result there, so the task returns a number."""

import os

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BROKER"])


@huey.task()
def nothing():
    return 1


def enqueue(count):
    for _ in range(count):
        nothing()
