"""What the log says of the ticks of periodic jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resqued import logs
from resqued.broker.bad_data import log_once
from resqued.broker.cron import CronState, Tick
from resqued.cron.definition import Definition
from resqued.cron.timetable import TickDecision
from resqued.logs import LogEvent


def log_done(definition: Definition, tick: Tick, decision: TickDecision, *, held: bool) -> None:
    """Ticks were enqueued or missed."""
    name = definition.name
    if decision.brought_back:
        logs.warning(
            f"cron={name}: its last tick lay more than an hour ahead of redis's clock; it counts"
            " from now",
            LogEvent.CRON_NOTICE,
            cron=name,
        )
    if decision.missed and not held:
        more = "more than " if decision.at_least else ""
        ticks = "1 tick" if decision.missed == 1 else f"{more}{decision.missed} ticks"
        logs.warning(
            f"cron={name} missed {ticks}, for which no arbiter was there in time (misfire="
            f"{definition.misfire}, grace={definition.grace:g} s)",
            LogEvent.CRON_MISSED,
            cron=name,
            jobs=decision.missed,
        )
    for job in tick.ids:
        logs.info(
            f"cron={name} enqueued job={job} queue={definition.queue}",
            LogEvent.CRON_ENQUEUED,
            cron=name,
            job=job,
            queue=definition.queue,
            function=definition.function,
        )


def log_skipped(definition: Definition, status: str) -> None:
    """A tick was left out. status: of the last job."""
    name = definition.name
    logs.info(
        f"cron={name} skipped a tick: its last job is {status}, and overlap=skip",
        LogEvent.CRON_SKIPPED,
        cron=name,
        reason=f"its last job is {status}",
    )


def log_other(definition: Definition, state: CronState) -> None:
    """Another definition than this one is in force."""
    theirs, ours = _spoken(state.definition), _spoken(definition.shown())
    differs = f" ({theirs}; here {ours})" if theirs != ours else ""
    log_once(
        f"cron {definition.name} {state.by}{differs}",
        f"cron={definition.name}: an arbiter on {state.by} has loaded another definition later"
        f"{differs}; it is in force, and this one is not",
        "WARNING",
    )


def _spoken(definition: Mapping[str, Any]) -> str:
    """A schedule in words. definition: as `Definition.shown`, but of any origin."""
    if definition.get("cron") is not None:
        return f"'{definition['cron']}' in the zone {definition.get('timezone')}"
    interval = definition.get("interval")
    return f"every {interval:g} s" if isinstance(interval, int | float) else "?"
