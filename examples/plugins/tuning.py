"""A lower priority and a core for each worker, an exception handler, a log of the plugin's own.

resqued -p examples/plugins/tuning.py --tuning-nice 5 --tuning-log /var/log/resqued/failed.log
"""

import os
from pathlib import Path

from resqued import hookimpl

log = None


@hookimpl
def add_options(options):
    options.add("--tuning-nice", default=0, help="Added to the nice value of workers.")
    options.add("--tuning-log", default=None, help="A line for each job that failed.")


@hookimpl
def after_fork(worker):
    os.nice(worker.config.tuning_nice)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[worker.number % len(cores)]})


@hookimpl
def worker_ready(worker, rq_worker):
    def note(job, kind, error, trace):
        print(job.id, job.func_name, kind.__name__, file=log, flush=True)

    if worker.config.tuning_log:
        global log
        log = Path(worker.config.tuning_log).open("a")  # noqa: SIM115
        rq_worker.push_exc_handler(note)


@hookimpl
def reopen_logs(role):
    global log
    if log:
        log = Path(log.name).open("a")  # noqa: SIM115
