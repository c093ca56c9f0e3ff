"""One step of the core: a state, the time, and the resulting actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resqued.core.actions import Action, Log
from resqued.core.state import State
from resqued.log_events import LogEvent


@dataclass
class Step:
    """The argument of every decision, which reads and changes `state` and adds actions."""

    state: State
    now: float
    actions: list[Action] = field(default_factory=list)

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def debug(self, text: str, event: LogEvent | None = None, **fields: Any) -> None:
        self.do(Log("DEBUG", text, event, fields))

    def info(self, text: str, event: LogEvent | None = None, **fields: Any) -> None:
        self.do(Log("INFO", text, event, fields))

    def warn(self, text: str, event: LogEvent | None = None, **fields: Any) -> None:
        self.do(Log("WARNING", text, event, fields))

    def error(self, text: str, event: LogEvent | None = None, **fields: Any) -> None:
        self.do(Log("ERROR", text, event, fields))
