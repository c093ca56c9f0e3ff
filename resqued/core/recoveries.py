"""Recoveries: each death that left something in Redis is put right by one short-lived child."""

from __future__ import annotations

from typing import Final

from resqued.core import fork_servers
from resqued.core.actions import StartRecovery
from resqued.core.backoff import backoff
from resqued.core.events import RecoveryDone
from resqued.core.state import Generation, Mode, Recovery, Stage
from resqued.core.step import Step
from resqued.printable import printable

LAST_WAIT: Final = {Mode.STOPPING: 2.0, Mode.DRAINING: 10.0}
"""Seconds that recoveries may take once the last worker is gone."""


def place(step: Step) -> None:
    """Give each waiting recovery to a live fork server, newest first."""
    waiting = [
        recovery
        for recovery in step.state.recoveries.values()
        if recovery.generation is None and recovery.not_before <= step.now
    ]
    if not waiting:
        return
    server = _newest(step)
    if server is None:
        _summon(step)
        return
    for recovery in waiting:
        recovery.generation, recovery.asked = server.number, step.now
        recovery.tries += 1
        step.do(StartRecovery(server.number, recovery))


def _newest(step: Step) -> Generation | None:
    able = [
        generation
        for generation in step.state.generations.values()
        if generation.stage in (Stage.READY, Stage.PROVING) and generation.pid is not None
    ]
    return max(able, key=lambda generation: generation.number, default=None)


def _summon(step: Step) -> None:
    """No fork server is left that could do it: have one of the generation in service."""
    state = step.state
    coming = (Stage.WAITING, Stage.STARTING, Stage.LOADING)
    if any(generation.stage in coming for generation in state.generations.values()):
        return
    generation = Generation(state.current, state.policy, state.plan, proven=True)
    if state.generations.setdefault(state.current, generation) is generation:
        fork_servers.start(step, generation)


def is_due(step: Step) -> bool:
    """While stopping: a job waits for a fork server that is not up yet, or that has just come."""
    since = step.now - LAST_WAIT[Mode.STOPPING]
    return any(
        recovery.record.phase.holds_job
        and (recovery.asked == 0 or (recovery.generation is not None and recovery.asked > since))
        for recovery in step.state.recoveries.values()
    )


def done(step: Step, event: RecoveryDone) -> None:
    """Put right, or to be tried again later."""
    state = step.state
    recovery = state.recoveries.get(event.name)
    if recovery is None:
        return
    if not event.verdict:
        recovery.generation = None
        recovery.not_before = step.now + max(1.0, backoff(recovery.tries))
        return
    del state.recoveries[event.name]
    held = recovery.record.job_id
    if held and recovery.record.phase.holds_job:
        step.info(f"worker={recovery.slot} recovered job={printable(held)}: {event.verdict}")
    if state.policy.burst and recovery.record.phase.holds_job:
        _reopen_a_slot(step, recovery)
        _look_again(step)


def _reopen_a_slot(step: Step, recovery: Recovery) -> None:
    """Burst: the job, if it is queued again, needs a worker that serves its queue."""
    for slot in step.state.slots.values():
        if slot.finished and slot.number <= step.state.plan.count:
            queues = step.state.plan.of(slot.number)
            if recovery.record.queue in queues or "*" in queues:
                slot.finished = False
                return


def _look_again(step: Step) -> None:
    """Burst: no queue counts as empty for a look that was before the recovery.

    It may have queued dependents, anywhere; and who has just looked may be on its way out.
    """
    plan = step.state.plan
    covered: set[str] = set()
    for number in range(1, plan.count + 1):
        queues = set(plan.of(number))
        if queues <= covered:
            continue
        covered |= queues
        slot = step.state.slot(number)
        slot.finished = False
        slot.look_again = slot.worker is not None
