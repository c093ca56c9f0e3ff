"""Recoveries: a fork server's short-lived child recovers the job of a dead worker."""

from __future__ import annotations

from typing import Final

from resqued.backoff import backoff
from resqued.core import death_lines, fork_servers
from resqued.core.actions import Send, TellLost
from resqued.core.state import GenerationHandle, Mode, OpenRequest, Recovery, Stage
from resqued.core.step import Step
from resqued.log_events import LogEvent
from resqued.messages import Recover, Recovered
from resqued.printable import printable

LAST_WAIT: Final = {Mode.STOPPING: 2.0, Mode.DRAINING: 10.0}
"""Seconds that recoveries may take once the last worker is gone."""


def place(step: Step) -> None:
    """Give each waiting recovery to a live fork server, newest first."""
    waiting = [
        recovery
        for recovery in step.state.recoveries.values()
        if recovery.request is None and recovery.not_before <= step.now
    ]
    if not waiting:
        return
    server = _newest(step)
    if server is None:
        _summon(step)
        return
    for recovery in waiting:
        recovery.request = OpenRequest(server.number, step.now)
        recovery.tries += 1
        step.do(Send(server.number, Recover(recovery.death)))


def _newest(step: Step) -> GenerationHandle | None:
    able = [
        generation
        for generation in step.state.generations.values()
        if generation.stage in (Stage.READY, Stage.PROVING) and generation.pid is not None
    ]
    return max(able, key=lambda generation: generation.number, default=None)


def _summon(step: Step) -> None:
    """Start a fork server of the generation in service, if none is left for recoveries."""
    state = step.state
    coming = (Stage.WAITING, Stage.STARTING, Stage.LOADING)
    if any(generation.stage in coming for generation in state.generations.values()):
        return
    generation = GenerationHandle(state.current, state.policy, state.plan, proven=True)
    if state.generations.setdefault(state.current, generation) is generation:
        fork_servers.start(step, generation)


def is_due(step: Step) -> bool:
    """While stopping: a job waits for a fork server that is not up yet, or that has just come."""
    since = step.now - LAST_WAIT[Mode.STOPPING]
    return any(
        recovery.death.record.phase.holds_job
        and (recovery.request.at > since if recovery.request else not recovery.failed)
        for recovery in step.state.recoveries.values()
    )


def lost(recovery: Recovery) -> None:
    """The fork server that was asked has ended: another one is, at once."""
    recovery.request, recovery.failed = None, False


def recovered(step: Step, message: Recovered) -> None:
    """A recovery has succeeded, or is tried again later."""
    state = step.state
    recovery = state.recoveries.get(message.name)
    if recovery is None:
        return
    if not message.verdict:
        recovery.request, recovery.failed = None, True
        recovery.not_before = step.now + max(1.0, backoff(recovery.tries))
        return
    del state.recoveries[message.name]
    death_lines.became(step, recovery, message.verdict)
    record = recovery.death.record
    if record.job_id and record.phase.holds_job:
        job_id = printable(record.job_id)
        step.info(
            f"worker={recovery.death.slot} recovered job={job_id}: {message.verdict}",
            LogEvent.JOB_RECOVERED,
            worker=recovery.death.slot,
            job=record.job_id,
            queue=record.queue,
            function=record.function or None,
            verdict=message.verdict,
        )
        step.do(TellLost(recovery.death, record.job_id, message.verdict))
    if state.policy.burst and record.phase.holds_job:
        _reopen_a_slot(step, record.queue)
        _look_again(step)


def _reopen_a_slot(step: Step, queue: str) -> None:
    """Burst: the job, if it is queued again, needs a worker that serves its queue."""
    for slot in step.state.slots.values():
        if slot.finished and slot.number <= step.state.plan.count:
            queues = step.state.plan.of(slot.number)
            if queue in queues or "*" in queues:
                slot.finished = False
                return


def _look_again(step: Step) -> None:
    """Burst: have workers check their queues again after a recovery.

    It may have queued dependents, anywhere; and a worker that has just looked may be leaving.
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
