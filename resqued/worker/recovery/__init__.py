"""Putting right in Redis what a dead worker left behind: its job, and its entry in RQ."""

from __future__ import annotations

from resqued.worker.recovery.recovery import recover

__all__ = ["recover"]
