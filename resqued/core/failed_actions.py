"""Decides after a failed action. The shell has logged the failure if it is a defect of resqued."""

from __future__ import annotations

from typing import assert_never

from resqued import messages
from resqued.core import (
    actions,
    duties,
    generations,
    judgement,
    recoveries,
    reloads,
    signals,
    stewards,
    workers,
)
from resqued.core.events import ActionFailed, Judged, Promoted
from resqued.core.state import Mode
from resqued.core.step import Step


def failed(step: Step, event: ActionFailed) -> None:
    """Treat the failure as the answer, if one is expected; other actions are repeated by a
    deadline."""
    action, reason = event.action, event.reason
    match action:
        case actions.StartForkServer():
            generations.not_started(step, action.generation, reason)
        case actions.BeginLoading():
            step.do(actions.KillForkServer(action.generation))  # its end is the answer
        case actions.StartWorker():
            slot, serial = action.worker.slot, action.worker.serial
            workers.not_forked(step, messages.WorkerNotForked(slot, serial, reason))
        case actions.Send():
            _not_sent(step, action.generation, action.message, reason)
        case actions.LoadConfig():
            reloads.config_failed(step, action.generation, reason)
        case actions.Promote():
            reloads.promoted(step, Promoted(action.reason, step.state.target))
        case actions.AskPlan():
            signals.not_planned(step, reason)
        case actions.AskStuck():
            worker = action.worker
            judgement.judged(step, Judged(worker.slot, worker.serial, None))
        case actions.CheckExec() | actions.Exec():
            signals.exec_failed(step, reason)
        case actions.Finish():
            step.state.mode = Mode.STOPPING  # the next turn finishes
        case (
            actions.Log()
            | actions.KillForkServer()
            | actions.SetStop()
            | actions.SetOrder()
            | actions.SignalChild()
            | actions.KillGroup()
            | actions.ClearStewardStatus()
            | actions.KeepDeaths()
            | actions.DiscardConfig()
            | actions.TellStarted()
            | actions.TellExited()
            | actions.TellLost()
            | actions.TellGenerationFailed()
            | actions.TellReady()
            | actions.Announce()
            | actions.TellStopping()
            | actions.Answer()
            | actions.LookAgain()
            | actions.ReopenLogs()
        ):
            pass
        case _:
            assert_never(action)


def _not_sent(step: Step, number: int, message: actions.Sendable, reason: str) -> None:
    match message:
        case messages.ForkSteward():
            stewards.not_forked(step, messages.StewardNotForked(message.serial, reason))
        case messages.Recover():
            death = message.death
            recoveries.recovered(step, messages.Recovered(death.slot, death.name, ""))
        case messages.RunDuties(wanted):
            duties.not_sent(step, number, wanted)
        case messages.SignalWorker() | messages.SignalSteward() | messages.Retire():
            pass
        case _:
            assert_never(message)
