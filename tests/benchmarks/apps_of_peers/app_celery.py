"""Celery: the prefork pool, with results."""

import os

from celery import Celery

app = Celery("app_celery", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
app.conf.broker_connection_retry_on_startup = True


@app.task
def nothing():
    return 1


def enqueue(count):
    for _ in range(count):
        nothing.delay()
