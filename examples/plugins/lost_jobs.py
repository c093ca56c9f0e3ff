"""Tell a web hook of jobs whose process died, from a thread: the arbiter never waits for it.

resqued -p examples/plugins/lost_jobs.py --lost-jobs-url https://chat.example.org/hook
"""

import json
import urllib.request
from collections import deque

from resqued import hookimpl

lost = deque(maxlen=1000)


@hookimpl
def add_options(options):
    options.add("--lost-jobs-url", default=None, help="POST what was lost to this address.")


@hookimpl
def job_lost(worker, job_id, verdict):
    lost.append({"job": job_id, "function": worker.function, "verdict": verdict})


@hookimpl
def arbiter_started(arbiter):
    arbiter.every(2, lambda: send(arbiter.config))


def send(config):
    while lost and config.lost_jobs_url:
        data = json.dumps(lost[0]).encode()
        request = urllib.request.Request(config.lost_jobs_url, data)
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=10).close()  # what it raises is logged
        lost.popleft()
