"""A plugin: workers serve none of the queues whose scheduled jobs the arbiter moves."""

from __future__ import annotations

from resqued import Config, hookimpl


@hookimpl
def choose_queues(config: Config, number: int, count: int) -> list[str]:
    return [config.queues[0].name]
