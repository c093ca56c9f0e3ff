"""The log of every process: one line per fact, in a descriptor that stays the same."""

from __future__ import annotations

from resqued.log_events import LogEvent
from resqued.logs.collected import collect
from resqued.logs.log import (
    bind_job,
    each_job,
    fds,
    files,
    let_out,
    logs_each_job,
    reopen,
    reopen_lost,
    repair,
    set_up,
    set_who,
    unbind_job,
    wants_fields,
)
from resqued.logs.opened import LogError
from resqued.logs.redaction import redact
from resqued.logs.report import at, critical, debug, error, exception, info, listen, warning
from resqued.logs.sources import logger

__all__ = [
    "LogError",
    "LogEvent",
    "at",
    "bind_job",
    "collect",
    "critical",
    "debug",
    "each_job",
    "error",
    "exception",
    "fds",
    "files",
    "info",
    "let_out",
    "listen",
    "logger",
    "logs_each_job",
    "redact",
    "reopen",
    "reopen_lost",
    "repair",
    "set_up",
    "set_who",
    "unbind_job",
    "wants_fields",
    "warning",
]
