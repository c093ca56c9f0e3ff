"""The plan: which queues each worker serves, as `choose_queues` decides. Checked here."""

from __future__ import annotations

from dataclasses import dataclass

from resqued.config import Config
from resqued.plugins.hooks import Hooks
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

    Raises ConfigError when a worker would be left with no queue.
    """
    chosen = [_choose(hooks, config, number, count) for number in range(1, count + 1)]
    for number, queues in enumerate(chosen, start=1):
        if not queues:
            largest = max(config.queues, key=lambda queue: queue.share(count))
            raise ConfigError(
                "queues",
                f"worker {number} of {count} would have no queue",
                remedy=f"raise the share of '{largest.name}' (now {largest.text}),"
                f" the largest, or run at most {largest.share(count)} workers",
            )
    return Plan(tuple(chosen))


def _choose(hooks: Hooks, config: Config, number: int, count: int) -> tuple[str, ...]:
    answer = hooks.ask("choose_queues", config=config, number=number, count=count)
    if answer is not None:
        return tuple(answer)
    shared = [queue for queue in config.queues if queue.text != "all"]
    if shared:
        raise ConfigError(
            "queues",
            f"'{shared[0]}' has a share, but no plugin answers choose_queues",
            remedy="take -p no:shares away, or load a plugin that chooses queues",
        )
    return tuple(queue.name for queue in config.queues)
