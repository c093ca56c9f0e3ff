"""The log of every process: one line per fact, in a descriptor that stays the same."""

from __future__ import annotations

from resqued.logs.log import (
    LogError,
    fact,
    fds,
    files,
    let_out,
    logger,
    reopen,
    reopen_lost,
    repair,
    set_up,
    set_who,
)
from resqued.logs.redaction import redact

__all__ = [
    "LogError",
    "fact",
    "fds",
    "files",
    "let_out",
    "logger",
    "redact",
    "reopen",
    "reopen_lost",
    "repair",
    "set_up",
    "set_who",
]
