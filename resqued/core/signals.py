"""Changes the arbiter's target by signals, and by plugins' verbs; `reconcile` then acts on it.

Functions that may refuse return why, which is in the log then; empty if they do what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from resqued.core import reloads, shutdown, verb_requests
from resqued.core.actions import AskPlan, CheckExec, Exec
from resqued.core.events import Counted, Planned, Signalled
from resqued.core.state import Mode, ReexecStage, State
from resqued.core.step import Step
from resqued.core.verb_requests import TARGET
from resqued.core.verbs import Verb
from resqued.log_events import LogEvent
from resqued.queue_words import DRAIN
from resqued.scoreboard import MAX_SLOTS
from resqued.signal_table import InArbiter, row_named


def _refused(step: Step, why: str) -> str:
    step.info(why, LogEvent.REFUSED, reason=why)
    return why


def drain(step: Step) -> str:
    """QUIT: every worker finishes its job, then the arbiter leaves."""
    mode = step.state.mode
    if mode is Mode.DRAINING:
        step.info(f"already {mode}", LogEvent.REFUSED, reason=f"already {mode}")
    elif mode.leaving:
        return _refused(step, f"already {mode}")
    else:
        shutdown.drain(step)
    return ""


def stop_now(step: Step) -> str:
    """INT, and TERM unless it means drain: jobs in hand are interrupted and put back."""
    if step.state.mode in (Mode.STOPPING, Mode.OVER):
        _refused(step, f"already {step.state.mode}")
    else:
        shutdown.stop_now(step, "asked to stop now")
    return ""


def term(step: Step) -> None:
    """TERM: now, or with --on-term drain the first one drains; or each for its queues.

    Where TERM means drain, the first one changes nothing of a drain that QUIT has begun: a
    container is stopped by QUIT from its preStop and TERM from the kubelet.
    """
    policy = step.state.policy
    first, step.state.term_came = not step.state.term_came, True
    if first and policy.on_term == DRAIN and step.state.mode is Mode.DRAINING:
        _refused(step, "already draining, which is what TERM means; another one stops now")
    elif step.state.mode.leaving:
        stop_now(step)
    elif policy.on_term_of:
        shutdown.sort(step)
    elif policy.on_term == DRAIN:
        shutdown.drain(step)
    else:
        stop_now(step)


def reload(step: Step) -> str:
    """HUP: a new generation with what is on disk; a second one replaces the one that boots."""
    state = step.state
    if state.mode.leaving:
        return _refused(step, f"no reload: {state.mode}")
    if state.reexec is ReexecStage.CHECKING:
        state.reload_wanted = True
        _refused(step, "no reload now: one follows the re-exec that is being checked")
    else:
        reloads.request(step)
    return ""


def reexec(step: Step) -> str:
    """USR2: check, then replace the arbiter's image in place."""
    state = step.state
    if state.mode.leaving:
        return _refused(step, f"no re-exec: {state.mode}")
    if state.reexec is not ReexecStage.NONE:
        _refused(step, "no second re-exec: one is under way")
    elif not is_settled(state):
        state.reexec = ReexecStage.WANTED
        step.info("re-exec waits for the generation that boots", LogEvent.REEXEC_STARTED)
    else:
        begin_reexec(step)
    return ""


def is_settled(state: State) -> bool:
    """Whether no generation boots, and the one in service has come up."""
    return state.booting is None and (
        state.ever_ready or (state.target == 0 and state.service() is not None)
    )


def begin_reexec(step: Step) -> None:
    """Check that the new image would come up, before anything is given up."""
    step.state.reexec = ReexecStage.CHECKING
    step.info("re-exec: checking", LogEvent.REEXEC_STARTED)
    step.do(CheckExec())


def exec_checked(step: Step) -> None:
    """The new image would start: exec it, unless a stop came meanwhile."""
    state = step.state
    if state.reexec is not ReexecStage.CHECKING:
        return
    if not state.mode.leaving:
        step.do(Exec())  # returns only when it failed
        return
    step.info(f"re-exec abandoned: {state.mode}", LogEvent.REEXEC_FAILED, reason=str(state.mode))
    _end_reexec(step, str(state.mode))


def exec_failed(step: Step, reason: str) -> None:
    """A failed check, or exec, changes nothing."""
    if step.state.reexec is ReexecStage.CHECKING:
        step.error(f"re-exec abandoned: {reason}", LogEvent.REEXEC_FAILED, reason=reason)
        _end_reexec(step, reason)


def _end_reexec(step: Step, reason: str) -> None:
    state = step.state
    verb_requests.settle(step, (Verb.REEXEC,), reason)
    state.reexec = ReexecStage.NONE
    if state.reload_wanted:
        state.reload_wanted = False
        reload(step)


def winch(step: Step) -> None:
    """WINCH: rest. On a terminal it only means a resize."""
    if step.state.terminal or step.state.mode is not Mode.RUNNING:
        step.debug("WINCH ignored")
    else:
        rest(step)


def rest(step: Step) -> str:
    """Stop all workers, keep the arbiter."""
    state = step.state
    if state.mode.leaving:
        return _refused(step, f"no rest: {state.mode}")
    verb_requests.replaced(step, TARGET, "rest")
    state.mode = Mode.RESTING
    step.info(
        "all workers are told to finish and leave; HUP or TTIN brings workers back",
        LogEvent.REST_STARTED,
    )
    return ""


def end_rest(step: Step) -> None:
    """The target is none; who ends the rest adds to it."""
    step.state.mode = Mode.RUNNING
    step.state.difference = -step.state.policy.workers


@dataclass(frozen=True)
class Largest:
    """The largest number of workers, and what limits it."""

    count: int
    limit: str

    def __str__(self) -> str:
        return f"{self.count} ({self.limit})"


def largest(step: Step) -> Largest:
    """How many workers there may be, whoever asks for them."""
    most = step.state.policy.max_workers
    if most is not None and most < MAX_SLOTS:
        return Largest(most, "--max-workers")
    return Largest(MAX_SLOTS, "slots of the scoreboard")


def grow(step: Step) -> None:
    """TTIN: one worker more; from rest, one."""
    state = step.state
    if state.mode.leaving:
        _refused(step, f"no more workers: {state.mode}")
        return
    verb_requests.replaced(step, TARGET, "TTIN")
    if state.mode is Mode.RESTING:
        end_rest(step)
    most = largest(step)
    if state.target + 1 > most.count:
        step.warn(f"no more workers: at most {most}", LogEvent.REFUSED, reason=f"at most {most}")
        return
    step.do(AskPlan(state.target + 1))


def shrink(step: Step) -> None:
    """TTOU: one worker fewer, down to none."""
    state = step.state
    if state.mode is not Mode.RUNNING:
        _refused(step, f"no fewer workers: {state.mode}")
    elif state.target > 0:
        verb_requests.replaced(step, TARGET, "TTOU")
        step.do(AskPlan(state.target - 1))
    else:
        _refused(step, "no fewer workers: there are none")


def reopen(step: Step) -> None:
    """USR1 with no plugin that answers it."""
    _refused(step, "USR1: no plugin reopens logs (-p no:logs)")


def counted(step: Step, event: Counted) -> None:
    """A plugin's `worker_count`, when it differs from the target."""
    state, most = step.state, largest(step)
    count = max(0, min(event.count, most.count))
    if event.count > most.count and event.count != state.refused_count:
        step.warn(
            f"a plugin's worker_count wants {event.count} workers: at most {most}",
            LogEvent.REFUSED,
            verb="worker_count",
            reason=f"at most {most}",
        )
    state.refused_count = event.count if event.count > most.count else 0
    if state.mode is Mode.RUNNING and count != state.target:
        verb_requests.replaced(step, TARGET, "worker_count")
        step.do(AskPlan(count))


def planned(step: Step, event: Planned) -> None:
    """A plan for another count."""
    state = step.state
    before, state.plan = state.target, event.plan
    count = event.plan.count
    state.difference = count - state.policy.workers
    if before != count:
        step.info(
            f"workers={count_text(count, state.difference)}, was {before}",
            LogEvent.WORKERS_CHANGED,
            workers=count,
            before=before,
        )
    for request in state.verb_requests.values():
        request.planned = True


def not_planned(step: Step, reason: str) -> None:
    """There can be no plan for that count."""
    step.warn(f"the count stays at {step.state.target}: {reason}", LogEvent.REFUSED, reason=reason)
    verb_requests.settle(step, (Verb.SCALE, Verb.REPLAN), reason)


def count_text(target: int, difference: int) -> str:
    """`8`, or `8 (+2)` when it differs from the configured count."""
    return f"{target} ({difference:+d})" if difference else str(target)


def _name(step: Step, name: str, effect: InArbiter) -> None:
    """Log which signal is obeyed; of USR1 `reopen`, or who reopens the logs, logs a line."""
    resizes = effect is InArbiter.REST and step.state.terminal
    if effect in (InArbiter.REOPEN, InArbiter.WAKE, InArbiter.DEFAULT) or resizes:
        return
    shown = str(effect)
    if effect is InArbiter.TERM:
        shown = "drain" if step.state.policy.on_term == DRAIN else "stop now"
    step.info(f"signal {name}: {shown}", LogEvent.SIGNAL_RECEIVED, signal=name)


def signalled(step: Step, event: Signalled) -> None:
    """Do what the signal asks for."""
    effect = row_named(event.name).arbiter
    _name(step, event.name, effect)
    match effect:
        case InArbiter.DRAIN:
            drain(step)
        case InArbiter.TERM:
            term(step)
        case InArbiter.STOP_NOW:
            stop_now(step)
        case InArbiter.RELOAD:
            reload(step)
        case InArbiter.REOPEN:
            reopen(step)
        case InArbiter.REEXEC:
            reexec(step)
        case InArbiter.REST:
            winch(step)
        case InArbiter.GROW:
            grow(step)
        case InArbiter.SHRINK:
            shrink(step)
        case InArbiter.WAKE | InArbiter.DEFAULT:
            pass
        case _:
            assert_never(effect)
