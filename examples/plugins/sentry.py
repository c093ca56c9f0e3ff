"""Sentry in the arbiter and in the workers; RQ's integration reports the jobs that fail.

resqued -p examples/plugins/sentry.py --sentry-dsn https://...
"""

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--sentry-dsn", default=None, help="Report to this project.")


@hookimpl
def arbiter_started(arbiter):
    import sentry_sdk

    # what it enables by itself would import rq, redis and the application's framework
    sentry_sdk.init(arbiter.config.sentry_dsn, auto_enabling_integrations=False)


@hookimpl
def before_load(generation):  # once, for all workers; its threads start where it reports
    import sentry_sdk

    sentry_sdk.init(generation.config.sentry_dsn)


@hookimpl
def worker_exiting(worker):
    import sentry_sdk

    sentry_sdk.flush(timeout=2)


@hookimpl
def job_lost(worker, job_id, verdict):  # its process could report nothing
    import sentry_sdk

    sentry_sdk.capture_message(f"the process of job {job_id} died: {verdict}", "error")
