"""The duties process: of the generation in service, until the arbiter leaves.

Its fork server starts it, if plugins have duties, and looks after it.
"""

from __future__ import annotations

from resqued.core.actions import Send
from resqued.core.state import Stage
from resqued.core.step import Step
from resqued.messages import RunDuties


def keep(step: Step) -> None:
    """Once a turn: tell each fork server for which this has changed."""
    state = step.state
    service = state.service()
    for generation in state.generations.values():
        wanted = generation is service and not state.mode.leaving
        if wanted != generation.duties and generation.stage in (Stage.PROVING, Stage.READY):
            generation.duties = wanted
            step.do(Send(generation.number, RunDuties(wanted)))


def not_sent(step: Step, number: int, wanted: bool) -> None:
    """The next turn sends it again."""
    generation = step.state.generations.get(number)
    if generation is not None:
        generation.duties = not wanted
