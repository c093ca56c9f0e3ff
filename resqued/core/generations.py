"""The life of a generation, from the start of its fork server to its end; see also `reloads`."""

from __future__ import annotations

from typing import Final, assert_never

from resqued.core import (
    fork_servers,
    reloads,
    requests,
    shutdown,
    worker_control,
    workers,
)
from resqued.core.actions import BeginLoading, KillForkServer, Send
from resqued.core.events import Started
from resqued.core.state import GenerationHandle, Recovery, Stage, State
from resqued.core.step import Step
from resqued.log_events import LogEvent
from resqued.messages import Calling, LoadFailed, Retire
from resqued.scoreboard import Phase, StopCause
from resqued.snapshots import WorkerState

LEAVE: Final = 20.0
"""Seconds that a retired fork server may take to leave, beyond its own exit and a recovery's."""


def started(step: Step, event: Started) -> None:
    """The exec succeeded."""
    generation = step.state.generations.get(event.generation)
    if generation is None:
        return
    generation.request, generation.pid = None, event.pid
    if generation.stage is Stage.DISCARDED:  # meanwhile
        step.do(KillForkServer(generation.number))


def not_started(step: Step, number: int, reason: str) -> None:
    """The exec failed (no memory, no processes): try again later."""
    generation = step.state.generations.get(number)
    if generation is None:
        return
    generation.request = None
    if generation.stage is Stage.DISCARDED:
        del step.state.generations[number]
        return
    step.error(
        f"gen={number} fork server cannot be started: {reason}",
        LogEvent.GENERATION_FAILED,
        gen=number,
        reason=reason,
    )
    generation.stage, generation.deadline = Stage.WAITING, None
    if number == step.state.booting:
        reloads.fail(step, generation, reason)
    else:
        fork_servers.put_off(step, generation)


def greeted(step: Step, generation: GenerationHandle | None) -> None:
    if generation is not None and generation.stage is Stage.STARTING:
        generation.stage = Stage.LOADING
        step.do(BeginLoading(generation.number))


def calls(generation: GenerationHandle | None, message: Calling) -> None:
    """Remember what its fork server runs that is not resqued's own, in case it ends meanwhile."""
    if generation is not None:
        generation.calling = message.what


def app_ready(step: Step, generation: GenerationHandle | None) -> None:
    """The application is loaded. In a reload a trial worker must come up before any worker is
    drained."""
    state = step.state
    if generation is None or generation.stage is not Stage.LOADING:
        return
    generation.ready_at = step.now
    if generation.number == state.booting:
        generation.stage = Stage.PROVING
        step.info(
            f"gen={generation.number} loaded; a trial worker has to come up",
            LogEvent.GENERATION_LOADED,
            gen=generation.number,
        )
    else:
        generation.stage = Stage.READY
        generation.deadline = None
        step.info(
            f"gen={generation.number} ready", LogEvent.GENERATION_READY, gen=generation.number
        )


def app_failed(step: Step, generation: GenerationHandle | None, failed: LoadFailed) -> None:
    """At the first start exit (78); in a reload keep the old generation; later, back off."""
    state = step.state
    if generation is None or generation.stage is Stage.DISCARDED:
        return
    step.error(
        f"gen={generation.number} failed: {failed.reason}",
        LogEvent.GENERATION_FAILED,
        gen=generation.number,
        reason=failed.reason,
        traceback=failed.traceback or None,
    )
    if generation.number == state.booting:
        reloads.fail(step, generation, failed.reason, leaves=True, traceback=failed.traceback)
    elif is_hopeless(state, generation):
        fork_servers.discard(step, generation.number, leaves=True)
        give_up_start(step, generation, 78, f"cannot be loaded: {failed.reason.splitlines()[0]}")


def is_hopeless(state: State, generation: GenerationHandle) -> bool:
    """Whether the first start has failed: no worker was ever ready, and no reload is under way."""
    return not state.ever_ready and not generation.proven and state.booting is None


def give_up_start(step: Step, generation: GenerationHandle, code: int, reason: str) -> None:
    """The first start has failed: tell plugins, and leave with `code`."""
    reloads.tell_failed(step, generation, reason)
    shutdown.give_up(step, code, f"gen={generation.number} {reason}")


def check(step: Step) -> None:
    """Deadlines of booting generations, the trial worker, back-offs, and hung fork servers."""
    for generation in list(step.state.generations.values()):
        match generation.stage:
            case Stage.WAITING:
                _start(step, generation)
            case Stage.PROVING:
                _prove(step, generation)
            case Stage.STARTING | Stage.LOADING | Stage.READY | Stage.RETIRING | Stage.DISCARDED:
                if generation.deadline is not None and generation.deadline <= step.now:
                    _late(step, generation)
            case _:
                assert_never(generation.stage)
        if _is_hung(step, generation):
            step.error(
                f"gen={generation.number} fork server does not answer: killed",
                LogEvent.FORK_SERVER_KILLED,
                gen=generation.number,
                reason="it does not answer",
            )
            generation.heard = step.now
            step.do(KillForkServer(generation.number))
    _check_trial(step)


def _start(step: Step, generation: GenerationHandle) -> None:
    """When its back-off is over. At the end only a recovery needs a fork server."""
    if generation.not_before <= step.now and not (
        step.state.mode.leaving and not step.state.recoveries
    ):
        fork_servers.start(step, generation)


def _is_hung(step: Step, generation: GenerationHandle) -> bool:
    """Whether it has open requests and has sent nothing for too long."""
    at = requests.hung_at(step.state, generation)
    return at is not None and max(at, step.state.judge_after) <= step.now


def _prove(step: Step, generation: GenerationHandle) -> None:
    """Fork the trial worker as soon as its slot is free; pass or fail by its record."""
    trial = step.state.trial
    if generation.proven:
        reloads.promote(step, generation)
        return
    if generation.rejected:
        reloads.fail(step, generation, generation.rejected)
        return
    if trial is None:  # else it is an earlier reload's, was killed, and holds the slot
        if generation.not_before <= step.now:
            workers.fork_trial(step, generation)
    elif trial.seen.phase is Phase.CONNECTING:
        return  # it waits for Redis
    if generation.deadline is not None and generation.deadline <= step.now:
        _late(step, generation)


def _late(step: Step, generation: GenerationHandle) -> None:
    """Its deadline has passed."""
    generation.deadline = None
    match generation.stage:
        case Stage.RETIRING:
            allowed = LEAVE + 2 * generation.policy.exit_timeout
            step.warn(
                f"gen={generation.number} fork server did not leave in {allowed:g} s: killed",
                LogEvent.FORK_SERVER_KILLED,
                gen=generation.number,
                reason="it did not leave",
            )
            step.do(KillForkServer(generation.number))
        case Stage.DISCARDED:
            step.warn(
                f"gen={generation.number} fork server did not leave: killed",
                LogEvent.FORK_SERVER_KILLED,
                gen=generation.number,
                reason="it did not leave",
            )
            step.do(KillForkServer(generation.number))
        case Stage.STARTING | Stage.LOADING | Stage.PROVING:
            _not_up(step, generation)
        case Stage.WAITING | Stage.READY:
            pass
        case _:
            assert_never(generation.stage)


def _not_up(step: Step, generation: GenerationHandle) -> None:
    """The boot timeout is over."""
    state = step.state
    timeout = generation.policy.boot_timeout
    reason = f"not up after {timeout:g} s (--boot-timeout), still {generation.stage}"
    if generation.calling:
        reason += f", during {generation.calling}"
    if generation.vetoed:
        reason += f"; its trial worker was vetoed: {generation.vetoed}"
    if generation.number == state.booting:
        reloads.fail(step, generation, reason)
    elif is_hopeless(state, generation):
        fork_servers.discard(step, generation.number)
        give_up_start(step, generation, 78, reason)
    else:
        step.error(
            f"gen={generation.number} fork server {reason}: killed",
            LogEvent.FORK_SERVER_KILLED,
            gen=generation.number,
            reason=reason,
        )
        step.do(KillForkServer(generation.number))


def _check_trial(step: Step) -> None:
    """A trial worker that has proved its generation, or lost its purpose, leaves."""
    state = step.state
    trial = state.trial
    if trial is None or trial.state is WorkerState.KILLED:
        return
    if trial.generation != state.booting:
        worker_control.tell_drain(step, trial, StopCause.TRIAL)


def retire(step: Step) -> None:
    """A generation that is neither in service nor booting, and has no worker left, goes."""
    state = step.state
    holding = {worker.generation for worker in state.workers() if not worker.adopted}
    for number, generation in list(state.generations.items()):
        if number in (state.current, state.booting) or number in holding:
            continue
        if generation.stage is Stage.WAITING:
            del state.generations[number]
        elif generation.stage is Stage.READY and not _recovering(step, number):
            generation.stage = Stage.RETIRING
            generation.deadline = step.now + LEAVE + 2 * generation.policy.exit_timeout
            step.info(
                f"gen={number} retired: its last worker has gone",
                LogEvent.GENERATION_RETIRED,
                gen=number,
            )
            step.do(Send(number, Retire()))


def _recovering(step: Step, number: int) -> bool:
    return any(isinstance(each, Recovery) for each in requests.asked_of(step.state, number))
