"""The lines that RQ's own worker logs of each job, for a worker without an arbiter.

From BaseWorker.dequeue_job_and_maintain_ttl and BaseWorker._finalize_success.
"""

from __future__ import annotations

from rq.job import Job
from rq.logutils import blue, green
from rq.queue import Queue
from rq.worker import BaseWorker


def log_taken(worker: BaseWorker, job: Job, queue: Queue) -> None:
    """Log that a job left its queue."""
    log, name = worker.log, worker.name
    if worker.log_job_description:
        description = blue(job.description)
        log.info("Worker %s: %s: %s (%s)", name, green(queue.name), description, job.id)
    else:
        log.info("Worker %s: %s: %s", name, green(queue.name), job.id)


def log_finished(worker: BaseWorker, job: Job) -> None:
    """Log that its success is written."""
    log, name = worker.log, worker.name
    log.info("Worker %s: %s: %s (%s)", name, green(job.origin), blue("Job OK"), job.id)
    if not worker.log_result_lifespan:
        return
    seconds = job.get_result_ttl(worker.default_result_ttl)
    if seconds == 0:
        log.info("Worker %s: job %s result discarded immediately", name, job.id)
    elif seconds > 0:
        log.info("Worker %s: job %s result is kept for %s seconds", name, job.id, seconds)
    else:
        log.info(
            "Worker %s: job %s result will never expire, clean up result key manually", name, job.id
        )
