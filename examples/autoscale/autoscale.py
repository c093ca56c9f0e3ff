"""As many workers as keep the waiting short: `resqued -p ./autoscale.py --autoscale-max 20`.

A worker more each time that a job has waited too long, one fewer when none has waited for a while.
It uses what the arbiter knows (`arbiter.queues`), and has no connection to Redis of its own.
"""

from resqued import hookimpl

_quiet_since = None


@hookimpl
def add_options(options):
    options.add("--autoscale-max", default=8, type="count", help="So many workers at most.")
    options.add("--autoscale-wait", default=5.0, type="seconds", help="Longer, and one more.")
    options.add("--autoscale-calm", default=60.0, type="seconds", help="So long none, one fewer.")


@hookimpl
def worker_count(arbiter, current):  # asked every few seconds
    global _quiet_since
    config, now = arbiter.config, _now()
    mine = [queue for queue in arbiter.queues.values() if queue.workers and not queue.paused]
    if arbiter.redis is None or not arbiter.redis.answers:
        return None  # nothing is known: as many as now
    if any(queue.waiting for queue in mine):
        _quiet_since = None
        late = any((queue.oldest or 0) > config.autoscale_wait for queue in mine)
        return min(current + 1, max(config.autoscale_max, config.workers)) if late else None
    _quiet_since = _quiet_since or now
    if now - _quiet_since < config.autoscale_calm or current <= config.workers:
        return None
    _quiet_since = now
    return current - 1


def _now():
    import time

    return time.monotonic()
