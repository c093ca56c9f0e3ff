"""Worker classes that a user might bring."""

from __future__ import annotations

from rq.worker import SimpleWorker, Worker

from resqued.worker.rq_worker import ResquedWorker


class Mine(Worker):
    """Overrides what people override."""

    def perform_job(self, job, queue, execution):
        job.meta["mine"] = True
        job.save_meta()
        return super().perform_job(job, queue, execution)


class MineSimple(SimpleWorker):
    pass


class Unreporting(ResquedWorker):
    """Its report of a failure fails itself, as a broken integration's would."""

    def increment_failed_job_count(self, pipeline=None):
        raise TypeError("no report")
