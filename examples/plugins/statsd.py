"""Metrics in statsd's format over UDP; resqued-statsd beside this is the same as a package.

resqued -p examples/plugins/statsd.py --statsd-port 8125
"""

import contextlib
import socket
from functools import cache

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--statsd-port", default=8125, help="Send metrics to this port of localhost.")


@hookimpl
def tick(arbiter):
    send(arbiter.config, f"resqued.workers:{len(arbiter.workers)}|g")


@hookimpl
def after_job(worker, job, outcome):
    milliseconds = round(outcome.seconds * 1000)
    send(worker.config, f"resqued.{job.origin}.{outcome.status}:{milliseconds}|ms")


def send(config, metric):
    with contextlib.suppress(OSError):  # nobody listens
        client().sendto(metric.encode(), ("127.0.0.1", config.statsd_port))


@cache
def client():  # opened where it is used, so that no two processes share it
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
