"""`resquedctl cron`: the periodic jobs of all arbiters of a Redis; pause, resume and run them."""

from __future__ import annotations

import difflib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from resqued.ctl.choice import REFUSED
from resqued.ctl.chosen_redis import URL, with_redis
from resqued.ctl.columns import columns
from resqued.ctl.queues import since, who
from resqued.printable import listed, printable

if TYPE_CHECKING:
    from resqued.broker.cron_control import Kept, KeptJob

_LATE: Final = 5.0
"""Seconds after which a tick is late: another arbiter takes over before."""

_Said = tuple[str, bool]
"""What became of it, and whether it was done."""

_NAME: Final = click.argument("name", metavar="NAME")


@click.group("cron", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
@click.pass_context
def cron_group(context: click.Context, as_json: bool, url: str | None) -> None:
    """Show the periodic jobs of all arbiters of this Redis; pause, resume or run one.

    Times are local. RESULT is the state of the last job; - if it is gone. LATE: how long after its
    tick it was enqueued. KEEPER: the arbiter that has enqueued it. Jobs of RQ's format may share a
    name: then a digest follows it under NAME, and both together name one of them.
    """
    if context.invoked_subcommand is not None:
        return
    kept, arbiters = with_redis(context, url, "resquedctl", _read_all)
    if as_json:
        click.echo(json.dumps(_plain(kept), indent=2))
    else:
        click.echo("\n".join(_table(kept, arbiters)))


@cron_group.command()
@_NAME
@URL
@click.pass_context
def pause(context: click.Context, name: str, url: str | None) -> None:
    """Have no arbiter enqueue its ticks. It outlives restarts, until it is resumed."""

    def act(client: Any, job: KeptJob) -> _Said:
        from resqued.broker.cron_control import pause_job
        from resqued.broker.pauses import Pause

        answer = pause_job(client, job.key, Pause(who(), time.time()))
        already = f"was paused already{since(job.pause)}"
        return {"done": "paused", "already": already}.get(answer, answer), answer != "unknown"

    _steer(context, url, name, act)


@cron_group.command()
@_NAME
@URL
@click.pass_context
def resume(context: click.Context, name: str, url: str | None) -> None:
    """End its pause. Its ticks count from now: those that have passed are not made up for."""

    def act(client: Any, job: KeptJob) -> _Said:
        from resqued.broker.cron_control import resume_job

        answer = resume_job(client, job.key)
        words = {"done": "resumed", "already": "was not paused"}
        return words.get(answer, answer), answer != "unknown"

    _steer(context, url, name, act)


@cron_group.command()
@_NAME
@URL
@click.pass_context
def run(context: click.Context, name: str, url: str | None) -> None:
    """Enqueue one job of it now. This moves no tick, and ignores a pause and an unfinished job."""

    def act(client: Any, job: KeptJob) -> _Said:
        from resqued.broker.cron_control import run_job

        answer, new = run_job(client, job)
        if answer == "done":
            return f"enqueued job {new} in {job.definition.get('queue')}", True
        reasons = {
            "alone": "not enqueued: no living arbiter has it",
            "other": "not enqueued: its definition has just changed; try again",
        }
        return reasons.get(answer, answer), False

    _steer(context, url, name, act)


def _steer(
    context: click.Context, url: str | None, name: str, act: Callable[[Any, KeptJob], _Said]
) -> None:
    """Do this to each job of this name, or to the one with this key. It is told when all is done:
    who reads it may leave early."""

    def steer(client: Any) -> list[tuple[str, bool]]:
        jobs = _read(client).jobs
        found = [job for job in jobs if name in (job.name, job.key)]
        if not found:
            return [(f"{printable(name)}: no such periodic job{_hint(name, jobs)}", False)]
        labels = _labels(jobs)
        said = [(labels[job.key], *act(client, job)) for job in found]
        return [(f"{printable(job)}: {printable(text)}", done) for job, text, done in said]

    said = with_redis(context, url, "resquedctl", steer)
    for line, done in said:
        click.echo(line, err=not done)
    if not all(done for _, done in said):
        context.exit(REFUSED)


def _labels(jobs: Sequence[KeptJob]) -> dict[str, str]:
    """By key, what tells each job from the others: its name, or the key if several share that."""
    count = Counter(job.name for job in jobs)
    return {job.key: job.name if count[job.name] == 1 else job.key for job in jobs}


def _hint(name: str, jobs: Sequence[KeptJob]) -> str:
    names = sorted({job.name for job in jobs})
    if near := difflib.get_close_matches(name, names, 1):
        return f"; did you mean {printable(near[0])}?"
    return f"; there are {listed(names)}" if names else "; there is none"


def _read(client: Any) -> Kept:
    from resqued.broker.cron_control import read_kept, with_rivals

    return with_rivals(client, read_kept(client))


def _read_all(client: Any) -> tuple[Kept, dict[str, str]]:
    """With the arbiters as people know them, by identity."""
    from resqued.broker.fleet import read_fleet

    fleet = read_fleet(client)
    return _read(client), {key: f"{each.host} pid {each.pid}" for key, each in fleet.items()}


def _plain(kept: Kept) -> dict[str, Any]:
    return {
        "clock": kept.clock,
        "arbiters": list(kept.arbiters),
        "jobs": [
            {**asdict(job), "definition": dict(job.definition), "next": _next(job)}
            | {"state": _state(job, kept.clock)}
            for job in kept.jobs
        ],
    }


def _next(job: KeptJob) -> float | None:
    from resqued.cron.outlook import next_of

    return next_of(job)


def _state(job: KeptJob, clock: float) -> str:
    """What is out of the ordinary, in words; empty: nothing."""
    if job.pause is not None:
        return f"paused{since(job.pause)}"
    if not job.definition.get("enabled", True):
        return "disabled"
    from resqued.cron.outlook import UNHEARD

    if job.heard > UNHEARD:
        return "no arbiter has it"
    if job.rival:
        return f"an rq cron has it, {job.rival}"
    due = _next(job)
    if due is not None and clock - due > _LATE:
        return f"late by {clock - due:.0f} s"
    return ""


def _table(kept: Kept, arbiters: Mapping[str, str]) -> list[str]:
    if not kept.jobs:
        return ["no arbiter has told of a periodic job; --cron MODULE loads them"]
    rows = [
        ["NAME", "SCHEDULE", "ZONE", "QUEUE", "NEXT", "LAST", "RESULT", "LATE", "STATE", "KEEPER"]
    ]
    labels = _labels(kept.jobs)
    for job in kept.jobs:
        definition = job.definition
        cron = definition.get("cron")
        every = _every(definition.get("interval")) if cron is None else str(cron)
        cells = (
            labels[job.key],
            every,
            "-" if cron is None else str(definition.get("timezone", "?")),
            str(definition.get("queue", "?")),
            _local(_next(job)),
            _local(job.at),
            job.status or "-",
            "-" if job.late is None else f"{job.late:.1f} s",
            _state(job, kept.clock) or "-",
            arbiters.get(job.keeper, "one that has left") if job.keeper else "-",
        )
        rows.append([printable(cell) for cell in cells])
    return columns(rows, right={7})


def _local(moment: float | None) -> str:
    if moment is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _every(interval: object) -> str:
    return f"every {interval:g} s" if isinstance(interval, int | float) else "?"
