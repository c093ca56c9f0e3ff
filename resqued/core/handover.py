"""The core's state as JSON, for a re-exec: `restore(dump(state))` equals `state`."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

from resqued.core.state import (
    Generation,
    Mode,
    Policy,
    Recovery,
    Reexec,
    Slot,
    Stage,
    State,
    Steward,
    WorkerHandle,
)
from resqued.plan import Plan
from resqued.scoreboard import Order, Record, Stop
from resqued.snapshots import WorkerState

T = TypeVar("T")


def dump(state: State) -> dict[str, Any]:
    """Plain JSON. Times stay monotonic seconds: the clock goes on over an exec."""
    return asdict(state)


def restore(plain: dict[str, Any]) -> State:
    """Raises KeyError, TypeError or ValueError for a state that this version does not know."""
    slots = [_slot(slot) for slot in plain["slots"].values()]
    generations = [_generation(generation) for generation in plain["generations"].values()]
    recoveries = [restore_recovery(recovery) for recovery in plain["recoveries"].values()]
    return _make(
        State,
        plain,
        policy=Policy(**plain["policy"]),
        plan=_plan(plain["plan"]),
        mode=Mode(plain["mode"]),
        reexec=Reexec(plain["reexec"]),
        slots={slot.number: slot for slot in slots},
        generations={generation.number: generation for generation in generations},
        recoveries={recovery.name: recovery for recovery in recoveries},
        trial=_worker(plain["trial"]),
        stewards={
            steward["serial"]: _make(Steward, steward) for steward in plain["stewards"].values()
        },
    )


def _make(cls: type[T], plain: dict[str, Any], **decoded: Any) -> T:
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    strange = set(plain) - known
    if strange:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(strange))}")
    return cls(**{**plain, **decoded})


def _plan(plain: dict[str, Any]) -> Plan:
    return Plan(tuple(tuple(queues) for queues in plain["queues"]))


def _slot(plain: dict[str, Any]) -> Slot:
    return _make(Slot, plain, worker=_worker(plain["worker"]))


def _worker(plain: dict[str, Any] | None) -> WorkerHandle | None:
    if plain is None:
        return None
    return _make(
        WorkerHandle,
        plain,
        queues=tuple(plain["queues"]),
        state=WorkerState(plain["state"]),
        stop=Stop(plain["stop"]),
        order=Order(plain["order"]),
        seen=Record.from_plain(plain["seen"]),
    )


def _generation(plain: dict[str, Any]) -> Generation:
    return _make(
        Generation,
        plain,
        policy=Policy(**plain["policy"]),
        plan=_plan(plain["plan"]),
        stage=Stage(plain["stage"]),
    )


def restore_recovery(plain: dict[str, Any]) -> Recovery:
    """Of `dataclasses.asdict`. Raises as `restore`."""
    return _make(
        Recovery,
        plain,
        queues=tuple(plain["queues"]),
        record=Record.from_plain(plain["record"]),
    )
