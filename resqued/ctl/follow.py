"""The events of an arbiter as they happen, for `resquedctl events --follow`."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from resqued.control import packets
from resqued.control.client import Connection, NotReached
from resqued.control.packets import ControlRequest
from resqued.linux import birth_ticks, lives
from resqued.status.chosen import ChosenArbiter

_PATIENCE: Final = 60.0
"""Seconds without a connection until a living arbiter is given up."""

_PERIOD: Final = 0.2
"""Seconds between two tries to connect."""

_KEPT: Final = 400
"""Events that are known again: at least those that an arbiter tells anew."""


def follow(arbiter: ChosenArbiter) -> Iterator[dict[str, Any]]:
    """The last events, and then each once as it happens, over a re-exec too, which ends the
    connection. Ends with NotReached, also when the arbiter does."""
    ticks = birth_ticks(arbiter.pid) if arbiter.pid else 0
    told: deque[str] = deque(maxlen=_KEPT)
    lost: float | None = None  # when the connection ended
    is_first = True
    while True:
        try:
            for event in _events(arbiter):
                is_first, lost = False, None
                if (text := json.dumps(event)) not in told:
                    told.append(text)
                    yield event
        except NotReached as error:
            if is_first or not arbiter.pid:
                raise
            if not lives(arbiter.pid, ticks):
                raise NotReached(f"the arbiter, pid {arbiter.pid}, has ended") from error
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _PATIENCE:
                raise
        time.sleep(_PERIOD)


def _events(arbiter: ChosenArbiter) -> Iterator[dict[str, Any]]:
    request = ControlRequest("events", {"follow": True})
    with Connection(arbiter.control, arbiter.owner) as connection:
        for answer in connection.ask(request):
            if answer.kind in (packets.REFUSED, packets.WRONG):
                raise NotReached(str(answer.facts.get("reason", "refused")))
            yield from answer.facts.get("events", ())
