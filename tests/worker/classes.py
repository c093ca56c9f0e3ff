"""Worker classes that a user might bring."""

from __future__ import annotations

import os
from pathlib import Path

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


def note(word):
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{word}\n")


def killed(job, pid, status, rusage):
    note("handler")


class Notes:
    """Overrides what RQ calls, and notes that it was called."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("work_horse_killed_handler", killed)
        super().__init__(*args, **kwargs)

    def bootstrap(self, *args, **kwargs):
        note("bootstrap")
        return super().bootstrap(*args, **kwargs)

    def dequeue_job_and_maintain_ttl(self, *args, **kwargs):
        note("dequeue")
        return super().dequeue_job_and_maintain_ttl(*args, **kwargs)

    def execute_job(self, job, queue):
        note("execute")
        return super().execute_job(job, queue)

    def handle_job_success(self, *args, **kwargs):
        note("success")
        return super().handle_job_success(*args, **kwargs)

    def handle_job_failure(self, *args, **kwargs):
        note("failure")
        return super().handle_job_failure(*args, **kwargs)

    def handle_exception(self, job, *exc_info):
        note("exception")
        return super().handle_exception(job, *exc_info)

    def handle_work_horse_killed(self, *args):
        note("killed")
        return super().handle_work_horse_killed(*args)

    def teardown(self):
        note("teardown")
        return super().teardown()


class Noting(Notes, ResquedWorker):
    pass


class NotingSimple(Notes, SimpleWorker):
    pass


class NotingForking(Notes, Worker):
    pass


class Fragile(SimpleWorker):
    def __init__(self, *args, **kwargs):
        if os.environ.get("FRAGILE"):
            raise RuntimeError("no database")
        super().__init__(*args, **kwargs)


class Skips:
    def execute_job(self, job, queue):
        if job.meta.get("skip"):
            note("skipped")
            return
        super().execute_job(job, queue)


class Skipping(Skips, ResquedWorker):
    pass


class SkippingSimple(Skips, SimpleWorker):
    pass


class Chokes:
    def execute_job(self, job, queue):
        if job.meta.get("chokes"):
            raise KeyError("no tenant")
        super().execute_job(job, queue)


class Choking(Chokes, ResquedWorker):
    pass


class ChokingSimple(Chokes, SimpleWorker):
    pass


class OfRq2(ResquedWorker):
    def perform_job(self, job, queue):
        return super().perform_job(job, queue)


class OfRq2Forking(Worker):
    def monitor_work_horse(self, job, queue):
        return super().monitor_work_horse(job, queue)


class Narrow(SimpleWorker):
    def __init__(self, queues, name=None, connection=None):
        super().__init__(queues, name, connection=connection)


# Attributes that resqued once had, and that a user may choose as well.
_NAMES = """
begin beat cut_for ear enqueue_ready follow_up give_back hear maintain outage put_back slot taken
taker turn until_answered waiter write_failure write_retry write_stopped write_success config death
verdict signals hooks record _begin _done _end _execution _fail _fetch _idle _known _look _release
_run _settle _slot _turn _write _guard _ask _queue
"""


class Crowded(ResquedWorker):
    locals().update({name: number for number, name in enumerate(_NAMES.split())})


class CrowdedSimple(SimpleWorker):
    locals().update({name: number for number, name in enumerate(_NAMES.split())})


class CrowdedForking(Worker):
    locals().update({name: number for number, name in enumerate(_NAMES.split())})
