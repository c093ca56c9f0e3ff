"""What a job has returned, as bytes."""

from __future__ import annotations

from typing import Any

from rq.job import Job

from resqued.worker.job.function import function_of


class ResultTooLarge(Exception):
    """Recorded as what a job has failed of whose result is more than --max-result allows."""


def dump(job: Job, value: Any, limit: int) -> list[bytes]:
    """The bytes of a result; none if it cannot be serialized. Raises ResultTooLarge."""
    try:
        data = job.serializer.dumps(value)
        data = data.encode() if isinstance(data, str) else bytes(data)
    except BaseException:  # as RQ, which then stores a word for it
        return []
    if len(data) > limit:
        raise ResultTooLarge(
            f"the result of {function_of(job)} has {len(data)} bytes as it is stored, and"
            f" --max-result allows {limit}: store it elsewhere and return where, or allow more"
        )
    return [data]
