"""Tracers that patch RQ see each execution of a job, whichever way it goes.

What they patch is `Job.perform`, `perform_job` and `handle_exception`. OpenTelemetry has its SDK
here and an instrumentor as such packages have it: the one for RQ that is published patches methods
that RQ 3 does not have. Datadog's integration is its own, in an environment of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version

import pytest
from rq import Retry

from benchmarks.environments import made
from harness.command import COMMAND
from harness.waiting import read_lines, wait_for

JOBS = """
    import functools, json

    def told(name, failed):
        with open("spans", "a") as file:
            file.write(json.dumps([name, failed]) + "\\n")

    def works():
        return 1

    def fails():
        raise ValueError("fails")
"""

OPENTELEMETRY = """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from rq.job import Job
    from rq.worker import BaseWorker

    class Exporter(SpanExporter):
        def export(self, spans):
            for span in spans:
                told(span.name, not span.status.is_ok)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Exporter()))
    tracer = provider.get_tracer("rq")

    def instrument(cls, name):
        plain = getattr(cls, name)

        @functools.wraps(plain)
        def traced(self, *args, **kwargs):
            with tracer.start_as_current_span(name):
                return plain(self, *args, **kwargs)

        setattr(cls, name, traced)

    instrument(Job, "perform")
    instrument(BaseWorker, "perform_job")
    instrument(BaseWorker, "handle_exception")
"""

DATADOG = """
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    class Filter(TraceFilter):
        def process_trace(self, trace):
            for span in trace:
                told(span.name.removeprefix("rq.job.").removeprefix("rq.worker."), bool(span.error))
            return None

    tracer.configure(trace_processors=[Filter()])
    ddtrace.patch(rq=True)
"""

QUIET = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}


def counts(arbiter):
    """How often each was called: (name, whether it raised)."""
    return Counter(map(tuple, map(json.loads, read_lines(arbiter.directory / "spans"))))


def run_jobs(arbiter, queue):
    """One that works, one that fails, and one that fails, is retried and fails again."""
    made = [
        queue().enqueue("app.works"),
        queue().enqueue("app.fails"),
        queue().enqueue("app.fails", retry=Retry(1)),
    ]
    for job in made:
        wait_for(lambda job=job: job.get_status() in ("finished", "failed"), 30, "a job to end")


ISOLATIONS = pytest.mark.parametrize("isolation", ["worker", "fork"])


@ISOLATIONS
def test_opentelemetry_counts_each_execution(resqued, queue, isolation):
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--path", ".", "--isolation", isolation),
        app=JOBS + OPENTELEMETRY,
        expect_errors="fails|Traceback|failed job|rq.worker",
    )
    run_jobs(arbiter, queue)
    expected = {
        ("perform", False): 1,
        ("perform", True): 3,
        ("perform_job", False): 4,
        ("handle_exception", False): 3,
    }
    wait_for(lambda: counts(arbiter) == expected, 10, f"{expected}")


@pytest.fixture(scope="session")
def with_datadog():
    """The command of this checkout, in an environment that has ddtrace too."""
    packages = [f"{name}=={version(name)}" for name in ("rq", "redis")]
    command = made(".venv-datadog", "-e", ".", "ddtrace>=4", *packages) / "resqued"
    assert str(command) != COMMAND
    return str(command)


@pytest.mark.slow
@pytest.mark.timeout(600)  # the environment is made once
@ISOLATIONS
def test_datadog_counts_each_execution(resqued, queue, with_datadog, isolation):
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--path", ".", "--isolation", isolation),
        app=JOBS + DATADOG,
        command=with_datadog,
        expect_errors="fails|Traceback|failed job|rq.worker",
        **QUIET,
    )
    run_jobs(arbiter, queue)
    expected = {("perform", False): 1, ("perform", True): 3, "perform_job": 4}

    def seen():
        """Whether `perform_job` counts as failed is Datadog's affair."""
        found = Counter()
        for (name, failed), times in counts(arbiter).items():
            found["perform_job" if name == "perform_job" else (name, failed)] += times
        return {key: found[key] for key in expected}

    wait_for(lambda: seen() == expected, 10, f"{expected}")


WRAPPED = """
    from rq.worker import BaseWorker

    def wrap(name):
        plain = getattr(BaseWorker, name)

        @functools.wraps(plain)
        def wrapped(*args, **kwargs):
            told(name, False)
            return plain(*args, **kwargs)

        setattr(BaseWorker, name, wrapped)

    wrap("handle_job_success")
    wrap("handle_job_failure")
"""


def test_what_wraps_how_rq_ends_jobs_is_called(resqued, queue):
    """It looks like RQ's own; no outcome goes past it."""
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--path", "."),
        app=JOBS + WRAPPED,
        expect_errors="fails|Traceback|failed job|rq.worker",
    )
    run_jobs(arbiter, queue)
    expected = {("handle_job_success", False): 1, ("handle_job_failure", False): 3}
    wait_for(lambda: counts(arbiter) == expected, 10, f"{expected}")
