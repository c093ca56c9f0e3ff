"""The boundary between two jobs: what one job leaves in the process must not meet the next."""

from __future__ import annotations

from resqued.worker.boundary.boundary import Boundary

__all__ = ["Boundary"]
