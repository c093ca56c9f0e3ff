"""OpenTelemetry: a span for each job, sent by OTLP to `OTEL_EXPORTER_OTLP_ENDPOINT`.

resqued -p examples/plugins/open_telemetry.py
"""

from resqued import hookimpl


@hookimpl
def before_load(generation):
    import opentelemetry.sdk.trace.export  # noqa: F401 (once, for all workers)


@hookimpl
def after_fork(worker):  # the thread that sends does not survive a fork
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@hookimpl(wrapper=True)
def perform_job(worker, job):
    from opentelemetry import trace

    with trace.get_tracer("resqued").start_as_current_span(job.func_name):
        return (yield)


@hookimpl
def worker_exiting(worker):
    from opentelemetry import trace

    trace.get_tracer_provider().force_flush(2000)
