"""The logger of resqued, and what else is routed into its log.

Records of standard logging (RQ's among them), warnings and uncaught exceptions.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import loguru

from resqued.log_events import LogEvent
from resqued.logs.job_context import JobContext
from resqued.logs.plain_values import pass_timeout, shown

if TYPE_CHECKING:
    from loguru import Logger


class OwnLogger(type(loguru.logger)):  # type: ignore[misc]
    """A logger whose sinks can harm nobody: what those of other code raise is dropped, SystemExit
    included. resqued logs where nothing may be raised."""

    def add(self, sink: Any, **options: Any) -> int:
        own = (getattr(sink, "__module__", "") or "").partition(".")[0] == __package__.partition(
            "."
        )[0]
        if callable(sink) and not own:
            given = sink

            def sink(message: Any) -> None:
                with contextlib.suppress(BaseException):
                    given(message)

        return int(super().add(sink, **options if own else {**options, "catch": True}))


def _independent() -> Logger:
    """A logger with sinks of its own, like a `copy.deepcopy` of loguru's. That recipe of loguru's
    documentation fails once the application has added a sink that cannot be copied; so the logger
    is built from its parts (loguru 0.7.3, `Logger.__init__`)."""
    shared = loguru.logger
    made = OwnLogger(type(shared._core)(), *shared._options)  # type: ignore[attr-defined]
    return cast("Logger", made)


logger: Final = _independent()
"""The logger of resqued, in every process."""


class StandardName(str):
    """The name of a logger of standard logging, as the name of a record; the line says it."""

    __slots__ = ()


class Route(logging.Handler):
    """Routes records of standard logging, RQ's among them, into resqued's log. RQ logs three INFO
    lines per job; resqued logs its own, so RQ's become DEBUG. job: what this process runs."""

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def createLock(self) -> None:
        """Use no lock: it would stay held if a job's timeout came while it is taken."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:  # the arguments do not fit, or one cannot be shown
            pass_timeout(error)
            text = f"{record.msg} {shown(record.args)}"
        level = next((name for name, no in _LEVELS if record.levelno >= no), "DEBUG")
        extra = {}
        if record.name.partition(".")[0] == "rq":
            text_of_rq = str(record.msg)
            follows = self._job.failure_follows and _FAILED in text_of_rq
            if level == "INFO" or follows or text_of_rq.startswith(_KILLED):
                level = "DEBUG"
        else:
            extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        name = StandardName(record.name)
        named = logger.patch(lambda made: made.update({"name": name, "extra": extra}))
        named.opt(exception=record.exc_info).log(level, text)


_FAILED: Final = "exception raised while executing"
"""In RQ's line about a failed job, which has its traceback, and as `extra` its arguments."""

_KILLED: Final = "Work horse killed"
"""In RQ's line about a dead process, of which the arbiter or the worker logs more."""

_STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def _children(parent: logging.Logger) -> list[logging.Logger]:
    """The existing loggers below one."""
    known = logging.root.manager.loggerDict.items()
    return [
        each
        for name, each in known
        if isinstance(each, logging.Logger) and name.startswith(f"{parent.name}.")
    ]


_LEVELS: Final = (("CRITICAL", 50), ("ERROR", 40), ("WARNING", 30), ("INFO", 20))


def catch_the_rest(route: Route, *, verbose: bool) -> list[logging.Logger]:
    """Route what does not come through loguru to the log; the loggers of RQ."""
    logging.lastResort = route  # the application may still configure logging itself
    logging.getLogger().setLevel(logging.INFO if verbose else logging.WARNING)
    rqs = logging.getLogger("rq")  # with a handler there, RQ installs none of its own
    rqs.addHandler(route)
    rqs.propagate = False
    for logger_of_rq in (rqs, logging.getLogger("rq.worker")):  # RQ sets that one to INFO
        logger_of_rq.setLevel(logging.DEBUG if verbose else logging.WARNING)
    warnings.showwarning = _show_warning
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    return [rqs, *_children(rqs)]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    named = logger.patch(lambda made: made.update({"name": "py.warnings"}))
    named.warning(f"{category.__name__}: {message} ({filename}:{lineno})")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    uncaught = logger.bind(event=LogEvent.UNCAUGHT)
    uncaught.opt(exception=(kind, error, trace)).critical("stopped by an uncaught exception")


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "unknown"
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        uncaught = logger.bind(event=LogEvent.UNCAUGHT)
        uncaught.opt(exception=args.exc_value).error(f"thread '{name}' stopped by an error")
