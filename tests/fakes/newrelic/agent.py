"""newrelic.agent: background tasks."""

from __future__ import annotations

from types import TracebackType

from told import tell


def initialize() -> None:
    tell("newrelic: initialized")


def application() -> str:
    return "the application"


def shutdown_agent(timeout: float) -> None:
    tell("newrelic: shut down")


class BackgroundTask:
    def __init__(self, application: str, name: str, group: str) -> None:
        self._name = f"{group}/{name}"

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        tell(f"newrelic: {self._name} {kind.__name__ if kind else 'ended'}")
