"""examples/opentelemetry: one trace from who enqueues to what the job does, sent by OTLP."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest

from harness.receivers import Site
from harness.waiting import wait_for
from recipes.conftest import EXAMPLES

HERE = EXAMPLES / "opentelemetry"

DECODE = """
import base64, json, sys
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
for line in sys.stdin:
    for resource in ExportTraceServiceRequest.FromString(base64.b64decode(line)).resource_spans:
        texts = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                print(json.dumps({
                    "service": texts["service.name"], "name": span.name,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "kind": span.kind, "failed": span.status.code == 2,
                    "events": [event.name for event in span.events],
                    "queue": {a.key: a.value.string_value for a in span.attributes}
                        .get("messaging.destination.name"),
                }))
"""


@pytest.fixture
def collector(programs):
    """`collector.spans()`: those that have arrived, by name."""
    site = Site()

    def spans():
        bodies = [body for path, body in list(site.posts) if path == "/v1/traces"]
        done = subprocess.run(
            [programs / "python", "-c", DECODE],
            input=b"\n".join(map(base64.b64encode, bodies)),
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    site.spans = spans
    yield site
    site.close()


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_the_job_is_part_of_the_trace_that_enqueued_it(
    collector, resqued, programs, call, valkey, isolation
):
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    arbiter = resqued(
        *("-n", 2, "--path", HERE, "--isolation", isolation),
        config=(HERE / "resqued.conf.py").read_text(),
        command=str(programs / "resqued"),
        expect_errors="cannot be paid|Traceback|rq.worker|Error",
        **env,
    )
    arbiter.wait_for_workers(2)
    words = ("order.py", 7, "pay", "fails")
    call("python", *words, cwd=HERE, RQ_REDIS_URL=valkey.url, **env)
    arbiter.wait_for(r"failed\b.*shop\.tasks\.fails|fails.*failed", timeout=20)
    arbiter.wait_for("finished", timeout=20)
    assert arbiter.stop("QUIT") == 0

    wait_for(lambda: len(collector.posts) >= 2, 20, "spans of both processes")
    spans = {span["name"]: span for span in collector.spans()}
    request = spans["POST /orders"]
    for name in ("pay", "fails"):
        job, producer = spans[f"shop.tasks.{name}"], spans[f"enqueue shop.tasks.{name}"]
        assert producer["parent"] == request["id"]
        assert job["parent"] == producer["id"]
        assert job["trace"] == request["trace"]
        assert (job["service"], request["service"]) == ("shop-workers", "shop-web")
        assert (producer["kind"], job["kind"], job["queue"]) == (4, 5, "default")
    assert spans["charge the card"]["parent"] == spans["shop.tasks.pay"]["id"]
    assert (spans["shop.tasks.fails"]["failed"], spans["shop.tasks.pay"]["failed"]) == (True, False)
    assert spans["shop.tasks.fails"]["events"] == ["exception"]
    assert len(collector.spans()) == 6, "each once"
