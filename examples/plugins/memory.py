"""Replace a worker that has become too large, and say which job has left it so.

resqued -p examples/plugins/memory.py --memory-limit 800M
"""

from resqued import hookimpl

last = ""


@hookimpl
def add_options(options):
    options.add("--memory-limit", default=None, type="size", help="Of a worker, in bytes.")


@hookimpl
def after_job(worker, job):
    global last
    last = job.func_name


@hookimpl
def should_recycle(worker):
    limit = worker.config.memory_limit
    if limit and worker.memory and worker.memory > limit:
        return f"{worker.memory // 2**20} MB after {last}"
    return None
