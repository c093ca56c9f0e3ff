"""The worker class: jobs run in the worker's own process, and none is ever lost.

Also for use without an arbiter: `rq worker -w resqued.worker.rq_worker.ResquedWorker`. There it
takes and writes as safely, but nobody kills a stuck job or recovers one whose worker died.
"""

from __future__ import annotations

from rq.worker import Worker

from resqued.worker.performing import Performing


class ResquedWorker(Performing, Worker):
    """An RQ worker that runs jobs without forking. Arguments as `rq.Worker`."""
