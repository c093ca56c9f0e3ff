"""Decides which turns of the arbiter's loop can be skipped: nothing has happened or is due.

Idle workers write to their records every few seconds, only to show that they live. Turns are
skipped while all workers stay idle. As soon as a worker gets a job, starts or exits, the loop turns
once a second, and every `WHOLE` seconds it does so anyway.
"""

from __future__ import annotations

import math
import time
from typing import Final

from resqued.core.state import Mode, ReexecStage, State
from resqued.scoreboard import Phase, Scoreboard, Seen, Stop
from resqued.snapshots import WorkerState

WHOLE: Final = 5.0
"""Seconds between two whole turns, at most."""


class IdleTurns:
    """Whether the next turn can be skipped. Runs in the arbiter."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._done: dict[int, int] = {}  # jobs of idle workers, by slot
        self._sequences: dict[int, int] = {}  # of their records
        self._until = 0.0

    def end(self) -> None:
        """The next turn is a whole one."""
        self._until = 0.0

    def begin(self, state: State, seen: dict[int, Seen], due: float | None) -> None:
        """Begin to skip turns, after a whole one, if all is steady. seen: records, by slot. due:
        the core's next deadline."""
        if not _is_steady(state):
            return
        self._until = min(time.monotonic() + WHOLE, due if due is not None else math.inf)
        self._sequences = {slot: sequence for slot, (sequence, _) in seen.items()}
        self._done = {slot: record.done for slot, (_, record) in seen.items()}

    def is_quiet(self) -> bool:
        """Whether nothing is due, and no record has changed except for signs of life."""
        if time.monotonic() >= self._until:
            return False
        look, sequences = self._scoreboard.sequence, self._sequences
        changed = [slot for slot, before in sequences.items() if look(slot) != before]
        for slot in changed:
            sequence, phase, done = self._scoreboard.glance(slot)
            if phase != Phase.IDLE or done != self._done[slot]:
                self.end()
                return False
            sequences[slot] = sequence
        return True


def _is_steady(state: State) -> bool:
    """Whether all target workers are idle, of the generation in service, and nothing is under
    way."""
    if (
        state.mode not in (Mode.RUNNING, Mode.RESTING)
        or state.booting is not None
        or state.trial is not None
        or state.reexec is not ReexecStage.NONE
        or not state.ready_told
        or state.reload_wanted
        or len(state.generations) != 1
        or len(state.stewards) != 1
        or state.recoveries
        or state.service() is None
        or not all(steward.ready and steward.kill_at is None for steward in state.stewards.values())
    ):
        return False
    idle = [
        slot.number
        for slot in state.slots.values()
        if (worker := slot.worker) is not None
        and worker.state is WorkerState.IDLE
        and worker.ready
        and worker.stop is Stop.NONE
        and worker.seen.phase is Phase.IDLE
        and worker.stopped_by is None
        and worker.attempt == 0
    ]
    living = sum(slot.worker is not None for slot in state.slots.values())
    return len(idle) == living == min(state.target, state.plan.count)
