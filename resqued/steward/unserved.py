"""Queues in which something waits, and which no living worker serves, on any host.

A job in a queue whose name is misspelt would wait there in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final

from resqued.facts import QueueMeasure
from resqued.logs import logger
from resqued.printable import listed

PATIENCE: Final = 15.0
"""Seconds for which it has to last: workers may just be replaced, or be registered again."""

OWN_PATIENCE: Final = 60.0
"""The same for a queue of the settings: its workers may be starting."""

AGAIN: Final = 3600.0
"""Seconds between two warnings of one queue, at least."""

_ONE_BY_ONE: Final = 5  # queues that each get a line when they are found together


class Unserved:
    """Finds these queues, and warns once of each. Runs in the steward. named: the queues of the
    settings."""

    def __init__(self, named: Collection[str]) -> None:
        self._named = named
        self._since: dict[str, float] = {}
        self._warned: dict[str, float] = {}

    def find(self, queues: Iterable[QueueMeasure], now: float) -> frozenset[str]:
        """Those that it holds for long enough of. now: seconds, monotonic."""
        queues = list(queues)
        alone = {queue.name: queue for queue in queues if queue.waiting and queue.served == 0}
        self._since = {name: self._since.get(name, now) for name in alone}
        found = {
            name: alone[name]
            for name, since in self._since.items()
            if now - since >= (OWN_PATIENCE if name in self._named else PATIENCE)
        }
        self._warned = {name: at for name, at in self._warned.items() if now < at + AGAIN}
        fresh = [queue for name, queue in found.items() if name not in self._warned]
        self._warned.update({queue.name: now for queue in fresh})
        for text in _warnings(fresh, [queue.name for queue in queues if queue.served]):
            logger.warning(text)
        return frozenset(found)


def _warnings(fresh: list[QueueMeasure], served: list[str]) -> Iterable[str]:
    if len(fresh) > _ONE_BY_ONE:
        names = listed([queue.name for queue in fresh])
        yield (
            f"jobs wait in {len(fresh)} queues that no worker serves, here or on another host:"
            f" {names}; serve them with --queue, or empty them"
        )
        return
    for queue in fresh:
        yield _warning(queue, served)


def _warning(queue: QueueMeasure, served: list[str]) -> str:
    name = listed([queue.name])
    jobs = "1 job waits" if queue.waiting == 1 else f"{queue.waiting} jobs wait"
    text = f"queue={name}: {jobs}, and no worker serves it, here or on another host"
    close = get_close_matches(queue.name, served, n=1, cutoff=0.7)
    if close:
        return f"{text}; it may be {listed(close)}, misspelt"
    return f"{text}; serve it with --queue {name}, or empty it"
