"""Ask plugins where the next job may be taken from: the hook `order_queues`, a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rq.queue import Queue

from resqued import logs
from resqued.logs import LogEvent
from resqued.printable import listed

if TYPE_CHECKING:
    from resqued.worker.slot import WorkerSlot

LOOK_AGAIN: Final = 5.0
"""Seconds after which an idle worker asks again; sooner if the arbiter calls (`call_idle`)."""


class QueueOrder:
    """What the plugins let one worker take. Used in its main thread, between two jobs: never
    between the end of a job and its outcome, which must not wait for a plugin."""

    def __init__(self, slot: WorkerSlot) -> None:
        self._slot = slot
        self._board = slot.writer.board
        self._calls = self._board.calls
        self._unknown: set[str] = set()

    def choose(self, queues: Sequence[Queue]) -> list[Queue]:
        """Those of these queues to look into now, most urgent first; maybe none. Never raises."""
        self._calls = self._board.calls  # before the question: a call after it is not missed
        served = {queue.name: queue for queue in queues}
        names = self._slot.hooks.chain(
            "order_queues", "queues", list(served), worker=self._slot.snapshot()
        )
        if unknown := {name for name in names if name not in served} - self._unknown:
            self._unknown |= unknown
            text = (
                f"order_queues answered {listed(sorted(unknown))}, which this worker does not"
                f" serve: ignored; its queues are {listed(list(served))}"
            )
            if self._slot.first(text):  # of all workers of the generation
                logs.warning(text, LogEvent.WORKER_NOTICE)
        return [served[name] for name in dict.fromkeys(names) if name in served]

    @property
    def is_called(self) -> bool:
        """Whether the arbiter has called since the last question."""
        return self._board.calls != self._calls
