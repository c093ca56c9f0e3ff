"""Worker classes that a user might bring."""

from __future__ import annotations

from rq.worker import SimpleWorker, Worker


class Mine(Worker):
    """Overrides what people override."""

    def perform_job(self, job, queue, execution):
        job.meta["mine"] = True
        job.save_meta()
        return super().perform_job(job, queue, execution)


class MineSimple(SimpleWorker):
    pass
