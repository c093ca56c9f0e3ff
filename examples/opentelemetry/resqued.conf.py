"""OpenTelemetry: each job is a span of the trace in which it was enqueued."""

from resqued import hookimpl

require = ["shop.tasks"]
path = ["."]


@hookimpl
def after_fork(worker):
    """In each worker: the thread that sends does not survive a fork."""
    from shop import tracing

    tracing.start("shop-workers")


@hookimpl(wrapper=True)
def perform_job(worker, job):
    from opentelemetry import propagate, trace

    context = propagate.extract(job.meta.get("trace", {}))
    attributes = {
        "messaging.system": "rq",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.origin,
        "messaging.message.id": job.id,
    }
    with trace.get_tracer("resqued").start_as_current_span(
        job.func_name, context, trace.SpanKind.CONSUMER, attributes
    ):
        return (yield)


@hookimpl
def worker_exiting(worker):
    from opentelemetry import trace

    trace.get_tracer_provider().shutdown()  # sends what is left
