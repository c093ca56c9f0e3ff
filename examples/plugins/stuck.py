"""A worker past its deadline: its stacks into the log, then an interrupt, then SIGKILL.

resqued -p examples/plugins/stuck.py

A job that is interrupted goes back to its queue, as at a stop, also when it takes SIGKILL in the
end: it runs again, up to `--max-interruptions` times. Without `Terminate` it fails.
"""

from resqued import Dump, Kill, Terminate, hookimpl

STEPS = (Dump, Terminate, Kill)


@hookimpl
def worker_stuck(worker, attempt):
    return STEPS[min(attempt, 2)]
