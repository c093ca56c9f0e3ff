"""Prometheus in multiprocess mode: the arbiter serves what all workers have counted.

resqued -p examples/plugins/prometheus.py --prometheus-port 9100
"""

import os
import shutil
from pathlib import Path

from resqued import hookimpl

counters = {}


@hookimpl
def add_options(options):
    options.add("--prometheus-port", default=9100, help="Serve metrics here.")


@hookimpl
def arbiter_started(arbiter, reason):
    from prometheus_client import CollectorRegistry, Counter, multiprocess, start_http_server

    folder, registry = folder_of(arbiter.config), CollectorRegistry()
    if reason == "start":  # else the files of running workers are in it
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    multiprocess.MultiProcessCollector(registry, path=str(folder))
    counters["gone"] = Counter("rq_workers_gone", "By reason.", ["reason"], registry=registry)
    start_http_server(arbiter.config.prometheus_port, registry=registry)  # in a thread


@hookimpl
def worker_exited(worker, exit):  # also after a SIGKILL
    counters["gone"].labels(exit.reason).inc()


@hookimpl
def before_load(generation):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder_of(generation.config))
    from prometheus_client import Counter  # it looks at the environment when it is imported

    counters["jobs"] = Counter("rq_jobs", "By queue and status.", ["queue", "status"])


@hookimpl
def after_job(job, outcome):  # one file a worker, not one a job
    counters["jobs"].labels(job.origin, outcome.status).inc()


def folder_of(config):
    return Path(config.state, "prometheus")
