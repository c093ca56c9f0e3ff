"""Queues in which something waits, and which no living worker serves, on any host.

A job in a queue whose name is misspelt would wait there in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Final

from resqued import logs
from resqued.logs import LogEvent
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

    @property
    def any(self) -> bool:
        """Whether the last look has found one, for however short a time."""
        return bool(self._since)

    def find(
        self, waiting: Mapping[str, int], served: Callable[[], list[str]], now: float
    ) -> list[str]:
        """Those that it holds for long enough of. waiting: jobs, of queues without a worker.
        served: queues with workers. now: seconds, monotonic."""
        self._since = {name: self._since.get(name, now) for name in waiting}
        found = [
            name
            for name, since in self._since.items()
            if now - since >= (OWN_PATIENCE if name in self._named else PATIENCE)
        ]
        self._warned = {name: at for name, at in self._warned.items() if now < at + AGAIN}
        fresh = {name: waiting[name] for name in found if name not in self._warned}
        self._warned.update(dict.fromkeys(fresh, now))
        if fresh:
            _warn(fresh, served)
        return found


def _warn(fresh: Mapping[str, int], served: Callable[[], list[str]]) -> None:
    event = LogEvent.QUEUE_UNSERVED
    if len(fresh) > _ONE_BY_ONE:
        text = (
            f"jobs wait in {len(fresh)} queues that no worker serves, here or on another host:"
            f" {listed(list(fresh))}; serve them with --queue, or empty them"
        )
        logs.warning(text, event, queues=list(fresh), waiting=sum(fresh.values()))
        return
    known = served()
    for name, count in fresh.items():
        logs.warning(_warning(name, count, known), event, queues=[name], waiting=count)


def _warning(name: str, count: int, served: list[str]) -> str:
    jobs = "1 job waits" if count == 1 else f"{count} jobs wait"
    shown = listed([name])
    text = f"queue={shown}: {jobs}, and no worker serves it, here or on another host"
    close = get_close_matches(name, served, n=1, cutoff=0.7)
    if close:
        return f"{text}; it may be {listed(close)}, misspelt"
    return f"{text}; serve it with --queue {shown}, or empty it"
