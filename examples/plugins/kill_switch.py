"""Functions that are switched off: `redis-cli SADD resqued:off myapp.tasks.report`.

resqued -p examples/plugins/kill_switch.py
"""

from resqued import hookimpl


class SwitchedOff(Exception):
    """The job's function is switched off; its retries come when it may be on again."""


@hookimpl(wrapper=True, tryfirst=True)
def perform_job(job):
    if job.connection.sismember("resqued:off", job.func_name):
        raise SwitchedOff(job.func_name)  # the job fails, and has not run
    return (yield)
