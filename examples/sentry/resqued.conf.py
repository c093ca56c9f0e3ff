"""Sentry: failed jobs from the workers, refused reloads from the arbiter, to SENTRY_DSN."""

require = ["shop"]
path = ["."]


def before_load(generation):
    """In the fork server, before the application: all workers have it. Each starts the thread that
    sends when it has something to send, so the fork does no harm."""
    import sentry_sdk

    sentry_sdk.init()  # finds RQ, and the application's framework, by itself


def arbiter_started(arbiter):
    import sentry_sdk

    # what it would enable by itself imports rq, redis and frameworks, which the arbiter never loads
    sentry_sdk.init(auto_enabling_integrations=False)


def generation_failed(arbiter, generation, reason):
    import sentry_sdk

    sentry_sdk.capture_message(f"resqued: reload refused: {reason}", "error")
