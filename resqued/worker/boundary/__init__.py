"""The boundary between two jobs: undo what one has changed in the process."""

from __future__ import annotations

from resqued.worker.boundary.boundary import Boundary

__all__ = ["Boundary"]
