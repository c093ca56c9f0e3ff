"""Reconcile the actual workers with the target: fork what is missing, drain the surplus."""

from __future__ import annotations

from typing import Final

from resqued.core import shutdown, worker_control, workers
from resqued.core.actions import Announce, TellReady
from resqued.core.state import GenerationHandle, Mode, Slot, State
from resqued.core.step import Step
from resqued.log_events import LogEvent
from resqued.scoreboard import Stop, StopCause
from resqued.snapshots import WorkerState

TRIES: Final = 3
"""Deaths of every slot, before any worker was ready, after which a start is given up (70)."""

KILLS: Final = 6
"""The same for deaths by SIGKILL, not from the arbiter: 15 s with the back-off. They may be from a
user, who will stop, or from the kernel for lack of memory."""

REDIS_WAIT: Final = 5.0
"""Seconds workers may wait for Redis before a daemon's parent is told so."""


def reconcile(step: Step) -> None:
    """Compare each slot with its plan. Starts or stops the difference, never more."""
    state = step.state
    if not state.mode.leaving:
        _give_up_a_hopeless_start(step)
    if state.mode.leaving:
        return
    target, service = state.target, state.service()
    for number in range(1, min(target, state.plan.count) + 1):
        _fill(step, state.slot(number), service)
    fewer = StopCause.REST if state.mode is Mode.RESTING else StopCause.SCALE
    for slot in state.slots.values():
        if slot.number > target and slot.worker is not None:
            worker_control.tell_drain(step, slot.worker, fewer)
    _finish_a_burst(step)
    _tell_ready(step)


def _fill(step: Step, slot: Slot, service: GenerationHandle | None) -> None:
    state = step.state
    queues = state.plan.of(slot.number)
    worker = slot.worker
    if worker is None:
        if service is not None and not slot.finished and slot.not_before <= step.now:
            workers.fork(step, slot, service, queues)
    elif worker.queues != queues or (
        worker.generation != state.current and state.generations[state.current].proven
    ):
        old = worker.generation != state.current
        worker_control.tell_drain(step, worker, StopCause.RELOAD if old else StopCause.PLAN)


def _give_up_a_hopeless_start(step: Step) -> None:
    """Exit when no worker was ever ready, so that a service manager sees the failure."""
    state = step.state
    if state.ever_ready or state.booting is not None:  # a reload may mend it
        return
    wanted = [state.slot(number) for number in range(1, state.target + 1)]
    if not wanted:
        return
    if all(slot.failures - slot.killed >= TRIES for slot in wanted):
        shutdown.give_up(step, 70, f"every worker has died {TRIES} times before it was ready")
    elif all(slot.failures >= KILLS or slot.failures - slot.killed >= TRIES for slot in wanted):
        why = f"every worker was killed (SIGKILL) {KILLS} times before it was ready"
        shutdown.give_up(step, 70, f"{why}: by a user, or for lack of memory")


def _finish_a_burst(step: Step) -> None:
    state = step.state
    if not state.policy.burst or state.mode is not Mode.RUNNING or state.recoveries:
        return
    wanted = [state.slot(number) for number in range(1, state.target + 1)]
    if wanted and all(slot.finished and slot.worker is None for slot in wanted):
        step.info("burst: all queues are empty", LogEvent.BURST_DONE)
        shutdown.drain(step)


def _tell_ready(step: Step) -> None:
    """Once after a start or a re-exec: every worker that is not backing off is ready."""
    state = step.state
    if state.mode is not Mode.RUNNING or state.ready_told:
        return
    slots = [state.slot(number) for number in range(1, state.target + 1)]
    living = [slot.worker for slot in slots if slot.worker is not None]
    if not slots or (state.ever_ready and living and all(m.ready for m in living)):
        state.ready_told = state.announced = True
        step.do(TellReady("start"))
    elif not state.announced and living and _only_redis(state, step.now):
        state.announced = True
        step.do(Announce("no worker can reach Redis yet; they keep trying"))


def _only_redis(state: State, now: float) -> bool:
    living = [slot.worker for slot in state.slots.values() if slot.worker is not None]
    return all(
        worker.state is WorkerState.CONNECTING
        and worker.stop is Stop.NONE
        and now - worker.asked > REDIS_WAIT
        for worker in living
    )
