"""A gate: a job waits at it until the test opens it, and the test knows when it is there."""

from __future__ import annotations

from pathlib import Path

from harness.waiting import wait_for


class Gate:
    """Give `str(gate)` to `jobs.wait_at` and to the other jobs that last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def reached(self) -> bool:
        return self._reached.exists()

    def wait_until_reached(self, timeout: float = 10) -> int:
        """The pid of the worker whose job has come here."""
        return int(
            wait_for(
                lambda: self._reached.exists() and self._reached.read_text(),
                timeout,
                f"a job to reach {self.path.name}",
            )
        )

    def open(self) -> None:
        self.path.touch()

    @property
    def _reached(self) -> Path:
        return self.path.with_name(f"{self.path.name}.reached")
