"""A configuration for production: start with `resqued -c /etc/resqued/resqued.conf.py`.

Settings are lower-case names; `resqued --help` lists them all. A function named as a hook is that
hook (`resqued --list-hooks`). Check a change before you use it, then reload:

    resqued -c /etc/resqued/resqued.conf.py --check && kill -HUP "$(cat /run/resqued/resqued.pid)"

This file is also read by the arbiter, which never loads the application. So import the
application inside hooks, not here at the top.
"""

import os

# Who works on what. The order is the priority: a queue is drained before the next is looked at.
workers = 32
queues = {
    "critical": "all",  # all 32 workers
    "high": 20,  # workers 1 to 20
    "low": 0.10,  # a tenth of them, rounded down: workers 1 to 3
    "*": "all",  # every other queue that RQ knows, alphabetically
}

# A URL with a password belongs into the environment or a file of its own, not into this one.
redis = os.environ.get("RQ_REDIS_URL", "redis://localhost:6379/0")

# Loaded once, then shared by all workers.
require = ["myapp", "myapp.tasks"]

# One file for everything; USR1 reopens it (see logrotate).
stdout_path = stderr_path = "/var/log/resqued/resqued.log"
pid = "/run/resqued/resqued.pid"

# A worker is replaced between two jobs when it has grown by this much or done so many.
max_memory = "512M"
max_jobs = 10_000

# A job that is still running this long after its own timeout is killed.
kill_after = 60

# When asked to drain, wait at most this long, then put the rest back into its queue.
grace = 840


def before_fork(worker):
    """Runs in the fork server before each fork: let go of what must not be shared."""
    from myapp import database

    database.engine.dispose()


def after_fork(worker):
    """Runs in the new worker, before it connects to Redis."""
    from myapp import metrics

    metrics.start(f"worker-{worker.number}")


def before_exec(arbiter, argv, env):
    """Runs in the arbiter on USR2: what the next image of it is started with."""
    env.pop("DEPLOY_TOKEN", None)
