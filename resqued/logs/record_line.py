"""Make a line of a record of loguru's: of resqued's own, of a plugin's, of the application's."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from resqued.log_events import LogEvent
from resqued.logs.job_context import JobContext
from resqued.logs.line_format import Line
from resqued.logs.redaction import redact
from resqued.logs.sources import StandardName
from resqued.logs.tracebacks import shorten
from resqued.printable import one_line

if TYPE_CHECKING:
    from loguru import Record

_ONE_LINE: Final = ("resqued.worker.", "resqued.steward.", "resqued.broker.")
"""Modules that log names of jobs and queues, which may be any text: each message is one line. Other
modules may log several: stacks, tracebacks, messages of plugins or checks."""

_NOT_FIELDS: Final = ("event", "traceback")
_WHOLE: Final = (LogEvent.DEFECT, LogEvent.UNCAUGHT)  # in their tracebacks all frames matter


def line_of(record: Record, job: JobContext) -> Line:
    """The line, before it is formatted. job: what this process runs."""
    name, extra, text = record["name"] or "", record["extra"], record["message"]
    line = Line(record["time"], record["level"].name, text, name, None, extra)
    event = extra.get("event")
    if isinstance(event, LogEvent):
        line.event = event
        line.fields = {key: value for key, value in extra.items() if key not in _NOT_FIELDS}
        whole = event is not LogEvent.GENERATION_FAILED
        line.traceback = shorten(extra.get("traceback") or "", whole=whole)
    elif name.startswith("resqued_plugins.") and not extra:
        line.event = LogEvent.PLUGIN_NOTICE
    if name.startswith(_ONE_LINE):
        line.text = one_line(redact(line.text))
    if isinstance(record["name"], StandardName):
        line.prefix = f"{name}: "
    is_own = name.startswith("resqued.")
    if record["exception"] is not None:
        trace = "".join(traceback.format_exception(*record["exception"])).rstrip()
        is_short = is_own and line.event not in _WHOLE
        line.traceback = shorten(trace, whole=True) if is_short else trace
    if not is_own or line.event is LogEvent.UNCAUGHT:
        line.job = job.fields()
    return line
