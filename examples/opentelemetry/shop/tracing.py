"""OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT; for workers and whoever enqueues."""

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def start(service):
    """Once a process, after it has been forked."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def enqueue(queue, function, *arguments):
    """Enqueue a job of the trace that goes on: its context travels in the job's meta."""
    with trace.get_tracer("shop").start_as_current_span(
        f"enqueue {function}", kind=trace.SpanKind.PRODUCER
    ):
        carrier = {}
        propagate.inject(carrier)
        return queue.enqueue(function, args=arguments, meta={"trace": carrier})
