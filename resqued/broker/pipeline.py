"""Redirect a transaction of RQ's to `step.lua`, instead of MULTI and EXEC.

RQ's own code decides what an outcome is, and fills a pipeline. If that is a StepPipeline, its
commands become arguments of the script, which checks what WATCH would check, in one round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.client import Pipeline

Commands = list[list[Any]]


class StepPipeline(Pipeline):
    """A pipeline that sends nothing before `execute`. send: takes the commands."""

    def __init__(self, client: redis.Redis, send: Callable[[Commands], None]) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, None)
        self.explicit_transaction = True
        self._send = send

    def watch(self, *names: Any) -> None:
        """Does nothing: the script checks what it writes."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands. Their replies are unknown; RQ uses none."""
        commands = [_flat(words) for words, _ in self.command_stack]
        self.reset()
        self._send(commands)
        return [None] * len(commands)

    def reset(self) -> None:  # type: ignore[override]
        """Start over; nothing is watched and no connection is held."""
        super().reset()
        self.explicit_transaction = True


def _flat(words: tuple[Any, ...]) -> list[Any]:
    """Split a command's name of two words, as redis-py has it (`CLIENT KILL`)."""
    name, *rest = words
    return [*str(name).split(), *rest]


class StepClient:
    """The client for RQ's code while it writes one outcome: its next pipeline is a StepPipeline."""

    def __init__(self, client: redis.Redis, send: Callable[[Commands], None]) -> None:
        self._client = client
        self._send = send
        self._given = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, *args: Any, **kwargs: Any) -> Pipeline:
        """The first one is for the outcome; RQ does all that follows with others."""
        if self._given:
            return self._client.pipeline(*args, **kwargs)
        self._given = True
        return StepPipeline(self._client, self._send)
