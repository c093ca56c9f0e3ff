"""The first line of the log: what is started, with which settings."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from resqued import __version__
from resqued.config import Config
from resqued.logs import redact
from resqued.queue_words import ISOLATION, ON_TERM


def banner(config: Config) -> tuple[str, dict[str, Any]]:
    """The line, and the fields of its event. Runs in the arbiter's process, before the loop. What
    Redis answers is in a line of the steward's, as the arbiter has no connection."""
    fields: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "rq": _version_of("rq"),
        "pid": os.getpid(),
        "config": config.config,
        "redis": redact(config.redis),
        "workers": config.workers,
        "modules": list(config.require),
        "isolation": ISOLATION.describe(config.isolation).partition(": ")[2],
        "on_term": ON_TERM.describe(config.on_term).partition(": ")[2],
    }
    text = (
        f"resqued {__version__} pid={os.getpid()} Python {fields['python']}, rq {fields['rq']};"
        f" workers={config.workers} redis={fields['redis']} config={config.config or 'none'}"
        f" modules={','.join(config.require) or 'none'};"
        f" {ISOLATION.describe(config.isolation)}; {ON_TERM.describe(config.on_term)}"
    )
    return text, fields


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
