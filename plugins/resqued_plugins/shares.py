"""Queue shares: `--queue high=20 --queue low=10%`.

Worker n serves a queue if n is within the queue's share, so worker 1 serves the most queues.
It answers last: a plugin or a config file that implements `choose_queues` decides instead.
"""

from __future__ import annotations

from resqued import Config, hookimpl


@hookimpl(trylast=True)
def choose_queues(config: Config, number: int, count: int) -> list[str]:
    return [queue.name for queue in config.queues if number <= queue.share(count)]
