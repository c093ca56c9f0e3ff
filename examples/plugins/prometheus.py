"""Prometheus in multiprocess mode: the arbiter serves what all workers have counted.

resqued -p examples/plugins/prometheus.py --prometheus-port 9100
"""

import os

from resqued import hookimpl

counters = {}


@hookimpl
def add_options(options):
    options.add("--prometheus-port", default=9100, help="Serve metrics here.")


@hookimpl
def arbiter_started(arbiter, reason):
    from prometheus_client import CollectorRegistry, Counter, multiprocess, start_http_server

    folder, registry = arbiter.config.state_dir("prometheus"), CollectorRegistry()
    for file in folder.glob("*.db") if reason == "start" else ():  # else workers write to them
        file.unlink()
    multiprocess.MultiProcessCollector(registry, path=str(folder))
    counters["gone"] = Counter("rq_workers_gone", "By reason.", ["reason"], registry=registry)
    start_http_server(arbiter.config.prometheus_port, registry=registry)  # in a thread


@hookimpl
def worker_exited(worker, exit):  # also after a SIGKILL
    counters["gone"].labels(exit.reason).inc()


@hookimpl
def before_load(generation):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(generation.config.state_dir("prometheus"))
    from prometheus_client import Counter  # it looks at the environment when it is imported

    counters["jobs"] = Counter("rq_jobs", "By queue and status.", ["queue", "status"])


@hookimpl
def after_job(job, outcome):  # one file a worker, not one a job
    counters["jobs"].labels(job.origin, outcome.status).inc()
