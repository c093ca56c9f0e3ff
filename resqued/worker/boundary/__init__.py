"""The boundary between two jobs: undoes what one job has changed in the process, before the
next."""

from __future__ import annotations

from resqued.worker.boundary.boundary import Boundary

__all__ = ["Boundary"]
