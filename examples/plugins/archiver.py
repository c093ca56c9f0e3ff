"""Jobs that failed a week ago go from RQ to the stream `archive`, once on all hosts together.

resqued -p examples/plugins/archiver.py
"""

from datetime import UTC, datetime, timedelta

from resqued import Duties, Duty, hookimpl
from resqued.duties import fenced

AGE = timedelta(days=7)


@hookimpl
def duties(duties: Duties) -> None:
    duties.add("archiver", archive, every=600, once="fleet", limit=120)


def archive(duty: Duty) -> None:
    from rq import Queue  # not above: the arbiter, which is without rq, imports this file too

    for queue in Queue.all(duty.connection):
        for job_id in queue.failed_job_registry.get_job_ids(0, 999):
            job = queue.fetch_job(job_id)
            if job and job.ended_at and datetime.now(UTC) - job.ended_at > AGE:
                with fenced(duty.connection, duty.token) as pipeline:
                    pipeline.xadd("archive", {"job": job_id, "call": job.description or ""})
                    job.delete(pipeline=pipeline)
