"""The log of every process: one line per fact, in a descriptor that stays the same."""

from __future__ import annotations

from resqued.logs.log import (
    LogError,
    fact,
    fds,
    files,
    let_out,
    reopen,
    reopen_lost,
    repair,
    set_up,
    set_who,
)
from resqued.logs.redaction import redact
from resqued.logs.sources import logger

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
