"""An application that itself imports what plugins for tracing and errors import."""

from __future__ import annotations

import opentelemetry.sdk.trace.export
import sentry_sdk

from benchmarks.heavy import look_up, nothing

__all__ = ["look_up", "nothing", "opentelemetry", "sentry_sdk"]
