"""The plan: which queues each worker serves, as `choose_queues` decides. Checked here."""

from __future__ import annotations

import time
from dataclasses import dataclass

from resqued.config import Config
from resqued.plugins.hooks import LIMIT, HookAnswer, Hooks
from resqued.verdicts import ConfigError


@dataclass(frozen=True)
class Plan:
    """For workers 1..count, the queues of each, in priority order."""

    queues: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        return len(self.queues)

    def of(self, number: int) -> tuple[str, ...]:
        return self.queues[number - 1]


def make_plan(hooks: Hooks, config: Config, count: int) -> Plan:
    """Ask `choose_queues` for every worker of `count`. Runs in the arbiter.

    Raises ConfigError when a worker would be left with no queue, and when the answers for all take
    longer than the limit of one hook.
    """
    chosen: list[tuple[str, ...]] = []
    until = time.monotonic() + LIMIT
    for number in range(1, count + 1):
        answer = hooks.answer("choose_queues", config=config, number=number, count=count)
        queues = _without_shares(config) if answer is None else tuple(answer.value)
        if not queues:
            raise _none_left(config, number, count, answer)
        if answer is not None and time.monotonic() > until:
            raise ConfigError(
                "queues",
                f"choose_queues took longer than {LIMIT:g} s for {number} of {count} workers;"
                f" plugin '{answer.plugin}' has answered last",
                remedy=f"make it quicker, or leave it out: -p no:{answer.plugin}",
            )
        chosen.append(queues)
    return Plan(tuple(chosen))


def _none_left(config: Config, number: int, count: int, answer: HookAnswer | None) -> ConfigError:
    if answer is not None and not answer.built_in:
        return ConfigError(
            "queues",
            f"worker {number} of {count} would have no queue: plugin '{answer.plugin}' has answered"
            f" choose_queues with {answer.value!r}",
            remedy="it may return None for workers that it does not decide about",
        )
    largest = max(config.queues, key=lambda queue: queue.share(count))
    return ConfigError(
        "queues",
        f"worker {number} of {count} would have no queue",
        remedy=f"raise the share of '{largest.name}' (now {largest.text}),"
        f" the largest, or run at most {largest.share(count)} workers",
    )


def _without_shares(config: Config) -> tuple[str, ...]:
    """All queues, when no plugin has answered."""
    shared = [queue for queue in config.queues if queue.text != "all"]
    if shared:
        raise ConfigError(
            "queues",
            f"'{shared[0]}' has a share, but no plugin answers choose_queues",
            remedy="take -p no:shares away, or load a plugin that chooses queues",
        )
    return tuple(queue.name for queue in config.queues)
