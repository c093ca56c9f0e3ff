"""The shutdown: workers first, then recoveries, the steward, fork servers, the arbiter itself."""

from __future__ import annotations

from typing import Final, assert_never

from resqued.core import (
    death_lines,
    fork_servers,
    recoveries,
    stewards,
    verb_requests,
    worker_control,
)
from resqued.core.actions import Finish, KeepDeaths, KillForkServer, Send, SetStop, TellStopping
from resqued.core.recoveries import LAST_WAIT
from resqued.core.state import Mode, Stage, State, WorkerHandle
from resqued.core.step import Step
from resqued.core.verbs import Verb
from resqued.log_events import LogEvent
from resqued.messages import Retire
from resqued.queue_words import NOW
from resqued.scoreboard import Stop, StopCause

SETTLE: Final = 0.2
"""Seconds in which a worker that was told to take no more has seen it, or is seen with its job."""

RETIRE_WAIT: Final = 3.0
"""Seconds a fork server may take to leave after its last child; when there is time, its exit and
that of a recovery are added (`--exit-timeout`)."""


def drain(step: Step) -> None:
    """Every worker finishes its job; --grace bounds it."""
    state = step.state
    state.mode = Mode.DRAINING
    if state.policy.grace is not None:
        state.stop_by = step.now + state.policy.grace
    limit = f", at most {state.policy.grace:g} s" if state.policy.grace is not None else ""
    step.info(f"draining: workers finish their jobs{limit}", LogEvent.DRAIN_STARTED)
    step.do(TellStopping(graceful=True))
    _give_up_boot(step)


def sort(step: Step) -> None:
    """TERM with different meanings for some queues. All workers are told to take no more jobs; when
    none can be about to start, each job is interrupted or finished by its queue's setting."""
    drain(step)
    step.state.sort_at = step.now + SETTLE
    own = ", ".join(f"{queue}={word}" for queue, word in step.state.policy.on_term_of.items())
    step.info(f"jobs of other queues: {step.state.policy.on_term}; {own}", LogEvent.DRAIN_STARTED)


def stop_now(step: Step, why: str) -> None:
    """Jobs in hand are interrupted and put back."""
    state = step.state
    draining = state.mode is Mode.DRAINING
    state.mode = Mode.STOPPING
    verb_requests.settle(step, (Verb.DRAIN,), f"stopping now: {why}")
    state.stop_began = step.now
    state.stop_by = state.sort_at = None
    if state.retire_by is not None:
        state.retire_by = min(state.retire_by, step.now + RETIRE_WAIT)
    step.info(f"stopping now: {why}; jobs in hand are put back", LogEvent.STOP_STARTED, reason=why)
    if not draining:
        step.do(TellStopping(graceful=False))
    _give_up_boot(step)


def give_up(step: Step, code: int, why: str) -> None:
    """Leave with the exit code of a failure."""
    if step.state.mode.leaving:
        return
    step.error(f"giving up: {why}", LogEvent.GAVE_UP, reason=why, exit_code=code)
    step.state.exit_code, step.state.exit_reason = code, why
    stop_now(step, "giving up")


def _give_up_boot(step: Step) -> None:
    """Discard the generation that boots, of a reload or of the first start."""
    state = step.state
    if state.booting is not None:
        state.last_reload = f"generation {state.booting}: given up"
        state.last_reload_at = step.now
        fork_servers.discard(step, state.booting)
    current = state.generations.get(state.current)
    if current is not None and current.stage in (Stage.STARTING, Stage.LOADING):
        if not state.recoveries:
            fork_servers.discard(step, current.number)
    elif current is not None and current.stage is Stage.WAITING:
        current.failures, current.not_before = 0, step.now  # a recovery may need it yet


def check(step: Step) -> None:
    """While leaving: tell all processes to leave, wait for them, then exit."""
    state = step.state
    if state.mode is Mode.OVER or not state.mode.leaving:
        return
    if state.mode is Mode.DRAINING and state.stop_by is not None and state.stop_by <= step.now:
        stop_now(step, "the grace is over")
    word = Stop.NOW if state.mode is Mode.STOPPING else Stop.DRAIN
    for worker in state.workers():  # stop words before signals: none takes what is put back
        if worker.stop < word:
            step.do(SetStop(worker.slot, word, StopCause.STOP))
    for worker in state.workers():
        if state.mode is Mode.STOPPING or _is_put_back(step, worker):
            worker_control.tell_now(step, worker, StopCause.STOP)
        else:
            worker_control.tell_drain(step, worker, StopCause.STOP)
    if state.workers():
        state.recover_by = None
    elif (not state.recoveries or _out_of_time(step)) and stewards.end(step):
        _retire_all(step)


def _is_put_back(step: Step, worker: WorkerHandle) -> bool:
    """Whether a job in hand is of a queue for which TERM means now."""
    state, seen = step.state, worker.seen
    if state.sort_at is None or state.sort_at > step.now or not seen.phase.holds_job:
        return False
    return state.policy.on_term_of.get(seen.queue, state.policy.on_term) == NOW


def _out_of_time(step: Step) -> bool:
    """Redis does not answer: leave the rest to the next arbiter, and log it."""
    state = step.state
    if state.recover_by is None:
        state.recover_by = step.now + LAST_WAIT[state.mode]
        return False
    if state.recover_by <= step.now and state.stop_began is not None and recoveries.is_due(step):
        state.recover_by = state.stop_began + worker_control.PATIENCE + LAST_WAIT[Mode.STOPPING]
    if state.recover_by > step.now:
        return False
    records = [recovery.death.record for recovery in state.recoveries.values()]
    ids = [record.job_id for record in records if record.phase.holds_job]
    if ids:
        step.error(
            f"leaving without having recovered: {', '.join(sorted(ids))}",
            LogEvent.ARBITER_NOTICE,
        )
        state.exit_code = state.exit_code or 75
    else:
        step.warn(
            f"leaving {len(state.recoveries)} dead names registered: no answer from Redis",
            LogEvent.ARBITER_NOTICE,
        )
    death_lines.abandoned(step)
    step.do(KeepDeaths(tuple(recovery.death for recovery in state.recoveries.values())))
    state.recoveries.clear()
    stewards.give_up(step)
    for generation in state.generations.values():
        if generation.pid is not None:  # with it go the recoveries that still wait for Redis
            generation.stage = Stage.DISCARDED
            step.do(KillForkServer(generation.number))
    return True


def _retire_wait(state: State) -> float:
    if state.mode is Mode.STOPPING:
        return RETIRE_WAIT
    exits = [generation.policy.exit_timeout for generation in state.generations.values()]
    return RETIRE_WAIT + 2 * max(exits, default=0.0)


def _retire_all(step: Step) -> None:
    state = step.state
    wait = _retire_wait(state)
    late = state.retire_by is not None and state.retire_by <= step.now
    if state.retire_by is None:
        state.retire_by = step.now + wait
    for number, generation in list(state.generations.items()):
        match generation.stage:
            case Stage.WAITING:
                del state.generations[number]
            case Stage.STARTING | Stage.LOADING:
                fork_servers.discard(step, number)  # it has nothing yet that it could finish
            case Stage.PROVING | Stage.READY | Stage.RETIRING | Stage.DISCARDED if late:
                step.warn(
                    f"gen={number} fork server did not leave in {wait:g} s: killed",
                    LogEvent.FORK_SERVER_KILLED,
                    gen=number,
                    reason="it did not leave",
                )
                step.do(KillForkServer(number))
            case Stage.PROVING | Stage.READY:
                generation.stage = Stage.RETIRING
                step.do(Send(number, Retire()))
            case Stage.RETIRING | Stage.DISCARDED:
                pass
            case _:
                assert_never(generation.stage)
    if late:
        state.retire_by = step.now + wait
    if not state.generations and not state.stewards:
        state.mode = Mode.OVER
        step.do(Finish(state.exit_code, state.exit_reason))
