"""Some workers more than are busy, with the arbiter's own facts and verbs.

resqued -n 2 -p examples/plugins/elastic.py --elastic-spare 2 --elastic-max 20
"""

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--elastic-max", default=0, help="So many workers at most; 0 is off.")
    options.add("--elastic-spare", default=2, help="So many workers without a job.")


@hookimpl
def arbiter_started(arbiter):
    arbiter.every(1, lambda: adapt(arbiter))


def adapt(arbiter):  # in a thread
    config = arbiter.config
    busy = sum(worker.job_id is not None for worker in arbiter.workers)
    needed = min(max(config.workers, busy + config.elastic_spare), config.elastic_max)
    if config.elastic_max and arbiter.state == "running" and needed != arbiter.wished:
        arbiter.scale(needed)
