"""The story of a queue: who serves it, what keeps it, how fast it drains."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from resqued.shares import check_name, parse_queue
from resqued.why.facts import QueueNow, Told, WorkerFacts
from resqued.why.words import clock, counted, listing, named, numbers, rate, span, typed

SILENCE = 120.0
"""Seconds without a heartbeat: the steward sends one every ten."""

RQS_SILENCE = 480.0
"""The same for a worker of RQ's own, which sends one every 405 s while it is idle."""


@dataclass(frozen=True)
class Hindrance:
    """Why the jobs of a queue wait. because: `which no worker serves`; empty: nothing keeps them.
    stands: none of them starts until that has changed."""

    state: str = "waiting"
    because: str = ""
    stands: bool = False
    lines: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)


def hindrances(queue: QueueNow, now: float) -> Hindrance:
    """The gravest first."""
    if queue.suspended:
        return Hindrance(
            "suspended",
            "and all workers are suspended (`rq suspend`)",
            True,
            remedies=["`rq resume`"],
        )
    if queue.paused:
        who = f" by {queue.paused_by}" if queue.paused_by else ""
        since = f" since {clock(queue.paused_since, now)}" if queue.paused_since else ""
        stock = [each for each in queue.workers if each.stock]
        lines = [f"RQ's own workers do not obey that: {_names(stock)}."] if stock else []
        return Hindrance(
            "paused",
            f"which is paused{since}{who}",
            not stock,
            lines,
            [f"`resquedctl queue resume {typed(queue.name)}`"],
        )
    if not queue.workers:
        near = listing([named(each) for each in queue.near], last="or")
        lines = [f"There is a queue {near}: is the name misspelt?"] if near else []
        return Hindrance(
            "unserved",
            "which no living worker serves, on any host",
            True,
            lines,
            [_serve(queue.name)],
        )
    if queue.limit is not None and queue.started >= queue.limit:
        return Hindrance(
            "at_limit",
            f"which is at its limit: {queue.started} of {queue.limit} jobs run in the whole fleet",
        )
    return _by_load(queue)


def _serve(name: str) -> str:
    """What has to be done so that a worker serves it."""
    try:
        check_name(name)
    except ValueError as error:
        return f"enqueue its jobs elsewhere, since no arbiter can serve it: {error}"
    try:
        is_plain = parse_queue(name).name == name
    except ValueError:  # it would be taken for a share, a limit or a pattern
        is_plain = False
    return f"start an arbiter with --queue {shlex.quote(name if is_plain else f'{name}=all')}"


def _patience(worker: WorkerFacts) -> float:
    """Seconds without a heartbeat after which a worker is taken for silent."""
    return RQS_SILENCE if worker.stock else SILENCE


def _by_load(queue: QueueNow) -> Hindrance:
    silent = [each for each in queue.workers if (each.beat or 0.0) > _patience(each)]
    if len(silent) == len(queue.workers):
        longest = min(each.beat or 0.0 for each in silent)
        text = f"and nothing was heard of its {counted(len(silent), 'worker')} for {span(longest)}"
        return Hindrance("silent", text, True)
    resting = [each for each in queue.workers if each.state == "suspended"]
    if resting and len(resting) == len(queue.workers):
        return Hindrance("suspended", "whose workers are suspended", True, remedies=["`rq resume`"])
    busy = [each for each in queue.workers if each.state == "busy"]
    if len(busy) < len(queue.workers):
        return Hindrance()
    are = {1: "its only worker is", 2: "both workers that serve it are"}.get(
        len(busy), f"all {len(busy)} workers that serve it are"
    )
    other, elsewhere = "", len(busy) - queue.started
    if elsewhere > 0:
        other = f", {elsewhere} of them with jobs of other queues"
        other = other if len(busy) > 1 else " with a job of another queue"
    return Hindrance("busy", f"and {are} busy{other}")


def tell_queue(queue: QueueNow, now: float) -> Told:
    """now: Unix seconds."""
    if not queue.known:
        near = listing([named(each) for each in queue.near], last="or")
        hint = f" Is {near} meant?" if near else ""
        return Told(
            "unknown",
            f"There is no queue {named(queue.name)} in this Redis, and no worker serves it.{hint}",
            ("RQ knows a queue from its first job on.",),
        )
    found = hindrances(queue, now)
    what = "Nothing waits" if not queue.waiting else f"{counted(queue.waiting, 'job')} waiting"
    headline = f"{what} in {named(queue.name)}"
    if found.because and (queue.waiting or found.stands):
        headline += f", {found.because}"
    lines = []
    if queue.waiting and queue.oldest is not None:
        lines.append(f"The first of them has waited for {span(queue.oldest)}.")
    lines += found.lines
    lines.append(_more(queue))
    lines += _served(queue)
    lines += _drains(queue, found, now)
    if queue.scheduled and queue.scheduler is False:
        lines.append(
            f"No scheduler runs for it: {counted(queue.scheduled, 'scheduled job')} will not start."
        )
    state = found.state if found.because else "empty" if not queue.waiting else "draining"
    if not queue.waiting and not found.stands:
        state = "empty"
    return Told(state, f"{headline}.", tuple(lines), tuple(found.remedies))


def _more(queue: QueueNow) -> str:
    counts = [f"{queue.started:,} running", f"{queue.scheduled:,} scheduled"]
    counts += [f"{queue.deferred:,} deferred", f"{queue.failed:,} failed"]
    limit = (
        f"; at most {queue.limit} run at once in the whole fleet" if queue.limit is not None else ""
    )
    return f"Its other jobs: {', '.join(counts)}{limit}."


def _served(queue: QueueNow) -> list[str]:
    if not queue.workers:
        return []
    states = Counter(each.state or "?" for each in queue.workers)
    shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    lines = [f"It is served by {counted(len(queue.workers), 'worker')} on all hosts ({shown})."]
    here = [each.number for each in queue.workers if each.here and each.number]
    if here:
        lines.append(f"Of this arbiter: {numbers(here)}.")
    hosts = Counter(each.host or "?" for each in queue.workers if not each.here)
    if hosts:
        elsewhere = [f"{count} on {host}" for host, count in hosts.most_common()]
        lines.append(f"Of others: {listing(elsewhere)}.")
    stock = [each for each in queue.workers if each.stock]
    if stock:
        lines.append(f"RQ's own among them, which obey neither pauses nor limits: {_names(stock)}.")
    return lines


def _names(workers: Sequence[WorkerFacts]) -> str:
    return listing([f"{named(each.name)} on {each.host or '?'}" for each in workers])


def _drains(queue: QueueNow, found: Hindrance, now: float) -> list[str]:
    if not queue.waiting:
        return []
    if found.stands:
        return ["Nothing of it starts until that has changed."]
    if not queue.per_minute:
        return [
            "How fast it drains is not known: none of its jobs has ended here in the last minute."
        ]
    seconds = queue.waiting / queue.per_minute * 60
    return [
        f"It drains at about {rate(queue.per_minute)}: the last that waits now starts in about"
        f" {span(seconds)}, at {clock(now + seconds, now)}, if nothing more urgent comes."
    ]
