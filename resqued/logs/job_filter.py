"""Which events `--log-jobs` leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resqued.log_events import LogEvent

_OFTEN: Final = frozenset({LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED})
_OF_JOBS: Final = _OFTEN | {
    LogEvent.JOB_FAILED,
    LogEvent.JOB_RETRIED,
    LogEvent.JOB_STOPPED,
    LogEvent.JOB_INTERRUPTED,
    LogEvent.JOB_SUPERSEDED,
    LogEvent.JOB_PUT_BACK,
}
"""What `--log-jobs` is about; not deaths and troubles."""
HIDDEN: Final[Mapping[str, frozenset[LogEvent]]] = {
    "all": frozenset(),
    "failed": _OFTEN,
    "none": _OF_JOBS,
}
"""By the value of the setting."""
