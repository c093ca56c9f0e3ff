"""A worker past its deadline: its stacks into the log, then an interrupt, then SIGKILL.

resqued -p examples/plugins/stuck.py
"""

from resqued import Dump, Kill, Terminate, hookimpl

STEPS = (Dump, Terminate, Kill)


@hookimpl
def worker_stuck(worker, attempt):
    return STEPS[min(attempt, 2)]
