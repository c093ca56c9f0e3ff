"""Workers by the length of the queues, which a thread measures over a connection of its own.

resqued -n 2 -p examples/plugins/autoscaling.py --autoscaling-max 20
"""

from resqued import hookimpl

wanted = None


@hookimpl
def add_options(options):
    options.add("--autoscaling-max", default=0, help="So many workers at most; 0 is off.")
    options.add("--autoscaling-jobs", default=10, type="count", help="Waiting jobs a worker.")


@hookimpl
def arbiter_started(arbiter):
    arbiter.every(2, lambda: measure(arbiter.config))


def measure(config):  # in a thread: the arbiter never waits for Redis
    global wanted
    if config.autoscaling_max:
        import redis

        with redis.Redis.from_url(config.redis) as connection:
            waiting = sum(connection.llen(f"rq:queue:{queue.name}") for queue in config.queues)
        needed = max(config.workers, waiting // config.autoscaling_jobs)
        wanted = min(needed, config.autoscaling_max)


@hookimpl
def worker_count(arbiter):
    return wanted  # None until it is known: as many as now
