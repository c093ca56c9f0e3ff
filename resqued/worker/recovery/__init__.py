"""The recovery of a dead worker: give its job an outcome, and deregister it in RQ."""

from __future__ import annotations

from resqued.worker.recovery.recovery import recover

__all__ = ["recover"]
