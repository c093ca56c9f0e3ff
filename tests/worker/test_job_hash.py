"""A job that the worker reads out of its hash is the one that `Job.restore` makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq import Callback, Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.webhook import Webhook

from harness import jobs
from harness.examples import examples
from resqued.broker.job_hash import JobReader

CONNECTION = redis.Redis(unix_socket_path="/nowhere")
"""Nothing is sent to it."""
ENCODE = CONNECTION.get_encoder().encode

WRITTEN_AT_THE_START = ("_status", "worker_name", "started_at", "last_heartbeat")
"""Whoever starts a job sets them, whatever they were."""

seconds = st.integers(1, 10**7)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.none() | st.booleans() | st.integers() | texts
callbacks = st.builds(Callback, st.sampled_from([jobs.slow_success]), seconds)
webhooks = st.builds(
    Webhook, st.just("http://host/path"), st.sampled_from(["finished", "failed"]), timeout=seconds
)
retries = st.builds(Retry, st.integers(1, 9), st.just(0) | st.lists(seconds, min_size=1))
options = st.fixed_dictionaries(
    {},
    optional={
        "args": st.lists(values, max_size=3),
        "kwargs": st.dictionaries(st.sampled_from("abc"), values),
        "result_ttl": seconds | st.sampled_from([0, -1]),
        "ttl": seconds,
        "failure_ttl": seconds | st.sampled_from([0, -1]),
        "timeout": seconds | st.sampled_from([-1, "1h", 180.5]),
        "description": texts,
        "depends_on": st.lists(st.sampled_from(["one", "two"]), min_size=1),
        "status": st.sampled_from(JobStatus),
        "meta": st.dictionaries(texts, values),
        "origin": st.sampled_from(["default", "tür"]),
        "group_id": st.just("group"),
        "on_success": callbacks,
        "on_failure": callbacks,
        "on_stopped": callbacks,
        "webhooks": st.lists(webhooks, min_size=1, max_size=2),
        "retry": retries,
    },
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "enqueued_at": moments,
        "started_at": moments,
        "ended_at": moments,
        "last_heartbeat": moments,
        "worker_name": st.just("host.test.1.1"),
        "enqueue_at_front": st.booleans(),
        "allow_dependency_failures": st.booleans(),
        "enqueue_at_front_on_retry": st.booleans(),
        "number_of_retries": st.integers(0, 9),
        "retries_left": st.integers(0, 9),
        "retry_intervals": st.lists(seconds, max_size=2),
        "repeats_left": st.integers(0, 9),
        "repeat_intervals": st.lists(seconds, max_size=2),
        "rate_limit_key": st.just("limit"),
        "rate_limit_concurrency": st.integers(1, 9),
        "_result": values,
        "_exc_info": texts,
    },
)
additions = st.fixed_dictionaries(
    {},
    optional={
        "interruptions": st.just("1"),
        "deaths": st.just("2"),
        "unknown": st.just("1"),
        "field_of_a_release_to_come": texts,
        "meta": st.just(b"\x80unreadable"),
        "data": st.just(b"not compressed"),
        "created_at": st.sampled_from(["", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000000Z"]),
        "origin": st.just(""),
        "result_ttl": st.just(""),
        "enqueued_at": st.just(""),
    },
)


def stored(job: Job, more: dict[str, Any], without: set[str]) -> dict[bytes, bytes]:
    """Its hash as Redis gives it back."""
    fields = {**job.to_dict(), **more}
    return {ENCODE(name): ENCODE(value) for name, value in fields.items() if name not in without}


def looks(job: Job) -> dict[str, Any]:
    found = {name: value for name, value in vars(job).items() if name not in WRITTEN_AT_THE_START}
    if datetime.now(UTC) - job.created_at < timedelta(minutes=1):  # none was written
        found["created_at"] = "now"
    return found


def restored(fields: dict[bytes, bytes], serializer: Any) -> Job:
    job = Job("one", connection=CONNECTION, serializer=serializer)
    job.restore(fields)
    return job


@pytest.mark.parametrize("serializer", [None, JSONSerializer], ids=["pickle", "json"])
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
@given(
    given=options,
    attributes=attributes,
    additions=additions,
    without=st.sets(st.sampled_from(["group_id", "stopped_callback_name", "status", "created_at"])),
)
def test_every_hash_is_read_as_rq_reads_it(serializer, given, attributes, additions, without):
    job = Job.create(jobs.nothing, id="one", connection=CONNECTION, serializer=serializer, **given)
    vars(job).update(attributes)
    fields = stored(job, additions, without)
    reader = JobReader(Job, CONNECTION, serializer)
    theirs = restored(dict(fields), serializer)
    for _ in range(2):  # what a job makes of itself is not the next one's
        own = reader.read("one", dict(fields))
        assert looks(own) == looks(theirs)
        own.meta["more"] = own.webhooks.append(None) or own._dependency_ids.append("more")
