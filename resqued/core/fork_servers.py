"""The fork server of a generation: started, put off, killed."""

from __future__ import annotations

from typing import Final

from resqued.backoff import backoff
from resqued.core import worker_control
from resqued.core.actions import DiscardConfig, KillForkServer, StartForkServer
from resqued.core.state import GenerationHandle, OpenRequest, Stage
from resqued.core.step import Step

STEADY: Final = 60.0
"""Seconds in service after which its failures are forgotten."""

_LAST: Final = 5.0
"""Seconds that a failed fork server may take to leave, beyond its `--exit-timeout`."""


def start(step: Step, generation: GenerationHandle) -> None:
    generation.stage = Stage.STARTING
    generation.request = OpenRequest(generation.number, step.now)
    generation.deadline = step.now + generation.policy.boot_timeout
    generation.heard = step.now
    generation.duties = False
    generation.calling = ""
    step.do(StartForkServer(generation.number))


def forget_failures(step: Step, generation: GenerationHandle) -> None:
    """It has ended: earlier failures do not count if it was in service for long enough."""
    if generation.ready_at and step.now - generation.ready_at > STEADY:
        generation.failures = 0


def put_off(step: Step, generation: GenerationHandle) -> None:
    """It has ended, or could not be started: try again after a back-off."""
    generation.ready_at = 0.0
    generation.failures += 1
    generation.stage = Stage.WAITING
    generation.deadline = None
    generation.not_before = step.now + backoff(generation.failures)


def discard(step: Step, number: int, *, leaves: bool = False) -> None:
    """End a generation that never came into service, with its trial worker.

    leaves: its fork server has reported a failure and leaves by itself, so that it can run its exit
    functions.
    """
    state = step.state
    generation = state.generations[number]
    generation.stage = Stage.DISCARDED
    generation.deadline = None
    if state.booting == number:
        state.booting = None
    step.do(DiscardConfig(number))
    if state.trial is not None and state.trial.generation == number:
        worker_control.kill(step, state.trial, "its generation was given up")
    if leaves:
        generation.deadline = step.now + _LAST + generation.policy.exit_timeout
    elif generation.pid is not None:
        step.do(KillForkServer(number))
    elif generation.request is None:  # else it is killed as soon as its pid is known
        del state.generations[number]
