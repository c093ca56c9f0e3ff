"""No fork without free memory, an alert when a worker does not come up, the release's name.

resqued -p examples/plugins/guards.py --guards-free 500M
"""

import os
import re
from pathlib import Path

from loguru import logger

from resqued import VetoFork, hookimpl


@hookimpl
def add_options(options):
    options.add("--guards-free", default=0, type="size", help="Fork with so much memory free.")


@hookimpl
def before_fork(worker):
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    if found and int(found[1]) * 1024 < worker.config.guards_free:
        raise VetoFork(f"{int(found[1]) // 1024} MB of memory are free", retry_after=15)


@hookimpl
def worker_exited(worker, exit):
    if not exit.booted and exit.failures_in_a_row == 5:
        logger.critical(f"worker {worker.number} does not come up: {exit}")


@hookimpl
def before_exec(argv, env):
    env["RELEASE"] = os.path.realpath("/srv/app/current")
