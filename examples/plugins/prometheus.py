"""Prometheus in multiprocess mode: the arbiter serves what all workers have counted.

resqued -p examples/plugins/prometheus.py --prometheus-port 9100
"""

import os
import shutil
from functools import cache
from pathlib import Path

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--prometheus-port", default=0, help="Serve metrics here.")


@hookimpl
def arbiter_started(arbiter, reason):
    folder = Path(arbiter.config.state, "prometheus")
    if reason == "start":  # else the files of running workers are in it
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # of the workers too
    from prometheus_client import CollectorRegistry, multiprocess, start_http_server

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    if arbiter.config.prometheus_port:
        start_http_server(arbiter.config.prometheus_port, registry=registry)


@hookimpl
def after_job(job, outcome):  # one file a worker, not one a job
    counter("rq_jobs", "queue", "status").labels(job.origin, outcome.status).inc()


@hookimpl
def worker_exited(worker, exit):  # also after a SIGKILL
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)
    counter("rq_workers_gone", "reason").labels(exit.reason).inc()


@cache
def counter(name, *labels):
    from prometheus_client import Counter  # it looks at the environment when it is imported

    return Counter(name, f"{name}, by {' and '.join(labels)}", labels)
