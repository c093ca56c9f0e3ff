"""The page of `resquedctl status`: what matters first, and at most 80 columns of it.

Pure: from an `ArbiterStatus` to lines. `--all` shows each worker and each queue, over the whole
width of the terminal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from resqued.scoreboard import TRIAL
from resqued.scoreboard.runs import ranges
from resqued.status.reader import ArbiterStatus, WorkerLine
from resqued.status.tables import LATE, busy_table, queue_table, trouble, worker_table
from resqued.status.text import (
    USUAL,
    Line,
    Span,
    clipped,
    cut_left,
    flow,
    plain,
    seconds,
    size,
)

_FEW: Final = 10
"""Queues that need a look, of which more are only counted."""

_LEAVING: Final = ("draining", "stopping", "resting")

_FOLDED: Final = ("idle", "booting", "starting", "connecting", "leaving", "down")


def page(status: ArbiterStatus, width: int, *, everything: bool = False) -> list[Line]:
    """The lines. width: of the terminal. everything: each worker, each queue."""
    if not everything:
        width = min(width, USUAL)
    lines = [*head(status, width), []]
    lines += _queue_part(status, width, everything=everything)
    lines += _busy_part(status, width)
    if everything:
        lines += [[]] if lines[-1] else []
        lines += worker_table(status.workers, width)
    else:
        lines += _folded(status, width)
    while lines and not lines[-1]:
        lines.pop()
    return [clipped(line, width) for line in lines]


def head(status: ArbiterStatus, width: int) -> list[Line]:
    """Everything but queues and workers."""
    summary = status.summary
    lines = flow(_first(status), width)
    lines += flow(_workers(status), width)
    lines += flow(redis_parts(status), width)
    lines += flow(cron_parts(status), width)
    lines += flow(_reload(status), width)
    lines += flow(_leaving(status), width)
    for plugin, hook in summary.get("silenced", {}).items():
        from resqued.plugins.hooks import silenced_because

        lines += flow([(f"plugin '{plain(plugin)}': {silenced_because(hook)}", "bad")], width * 4)
    if summary.get("config"):
        lines.append([("config: ", ""), (cut_left(plain(summary["config"]), width - 8), "")])
    return lines


def _first(status: ArbiterStatus) -> list[Span]:
    """`arbiter 812 running, generation 2, 3/32 workers ready, up 1h01m, resqued 0.1.0`."""
    summary = status.summary
    parts: list[Span] = [
        (f"arbiter {status.pid} {plain(summary.get('state', 'starting'))}", "bold")
    ]
    if status.process != "running":
        parts.append((f"but its process is {status.process}", "bad"))
    elif status.still is not None:
        parts.append((f"but its loop has not turned for {seconds(status.still)}", "bad"))
    parts.append((f"generation {summary.get('generation', '?')}", ""))
    ready, wished = summary.get("ready", 0), summary.get("wished", 0)
    if summary.get("state") in _LEAVING:
        parts.append((f"{ready} workers left", "odd"))
    else:
        parts.append((f"{ready}/{wished} workers ready", "odd" if ready < wished else ""))
    if summary.get("difference"):
        parts.append((f"configured {status.count}", ""))
    if started := summary.get("started"):
        parts.append((f"up {seconds(time.time() - started)}", ""))
    if recoveries := summary.get("recoveries"):
        parts.append((f"{recoveries} recoveries pending", "odd"))
    if version := summary.get("version"):
        parts.append((f"resqued {plain(version)}", ""))
    return parts


def _workers(status: ArbiterStatus) -> list[Span]:
    states = [line.state for line in status.workers if line.number != TRIAL]
    counts = {state: states.count(state) for state in ("busy", *_FOLDED)}
    always = ("busy", "idle", "booting")
    parts: list[Span] = [
        (f"{count} {state}", "bad" if state == "down" else "")
        for state, count in counts.items()
        if count or state in always
    ]
    parts[0] = (f"workers: {parts[0][0]}", parts[0][1])
    parts.append((f"{status.done} jobs done", ""))
    parts.append((f"{status.failed} failed", "odd" if status.failed else ""))
    if status.memory is not None:
        about = "about " if status.is_estimate else ""
        parts.append((f"{about}{size(status.memory)}", ""))
    return parts


def redis_parts(status: ArbiterStatus) -> list[Span]:
    """Redis, the scheduler, a suspension; as the steward has measured them."""
    facts = status.facts
    if facts is None:
        return [("redis: not measured yet", "dim")]
    now = time.monotonic()
    if not facts.answers:
        since = f"redis: no answer for {seconds(now - facts.since)}"
        return [(f"{since}: {plain(facts.error)}" if facts.error else since, "bad")]
    parts: list[Span] = [("redis: ok", "good")]
    if facts.round_trip is not None:
        parts.append((f"{facts.round_trip * 1000:.1f} ms", ""))
    if now - facts.measured > 3 * LATE:
        parts.append((f"measured {seconds(now - facts.measured)} ago", "odd"))
    scheduled = sum(queue.scheduled or 0 for queue in facts.queues)
    if facts.scheduler is False:
        parts.append((f"{scheduled} scheduled and no scheduler runs", "bad"))
    elif facts.scheduler:
        parts.append((f"{scheduled} scheduled", ""))
    if facts.suspended:
        parts.append(("suspended (rq suspend): no job is taken", "bad"))
    return parts


def cron_parts(status: ArbiterStatus) -> list[Span]:
    """The periodic jobs: the next tick, what is late, what fails."""
    schedule = status.facts.schedule if status.facts is not None else None
    if schedule is None:
        return []
    parts: list[Span] = []
    if (cron := schedule.cron) is not None and cron.jobs:
        parts.append((f"cron: {cron.jobs} job{'s' * (cron.jobs != 1)}", ""))
        if cron.next_at is not None:
            parts.append((tick(cron.next_name, cron.next_at, time.time()), ""))
        if cron.overdue:
            parts.append((f"late by {seconds(cron.late)}: {_named(cron.overdue)}", "bad"))
        if cron.failing:
            parts.append((f"last three runs failed: {_named(cron.failing)}", "bad"))
    if schedule.overdue is not None and schedule.overdue > LATE:
        parts.append((f"scheduled jobs are late by {seconds(schedule.overdue)}", "bad"))
    return parts


def tick(name: str, at: float, now: float) -> str:
    """`next report at 02:30:00`, with the day if it is another. The facts of many jobs may be
    older than the tick that was the next one then."""
    then = time.localtime(at)
    same = then[:3] == time.localtime(now)[:3]
    text = time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S", then)
    return f"next {plain(name)} {'at' if at > now - 1.0 else 'after'} {text}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names))


def _reload(status: ArbiterStatus) -> list[Span]:
    summary = status.summary
    parts: list[Span] = []
    if words := str(summary.get("last_reload") or ""):
        at = summary.get("last_reload_at")
        ago = f" {seconds(time.monotonic() - at)} ago" if at else ""
        parts.append((f"last reload: {plain(words)}{ago}", "bad" if "failed" in words else ""))
    if summary.get("booting") is not None:
        parts.append((f"generation {summary['booting']} is loading", "odd"))
    for number, stage in summary.get("generations", {}).items():
        if number in (str(summary.get("generation")), str(summary.get("booting"))):
            continue
        left = [line for line in status.workers if str(line.generation) == number and line.pid]
        busy = sum(line.state == "busy" for line in left)
        jobs = "1 job" if busy == 1 else f"{busy} jobs"
        doing = f"finishes {jobs}" if left else stage
        parts.append((f"generation {number} {doing}", "odd"))
    return parts


def _leaving(status: ArbiterStatus) -> list[Span]:
    """Of a drain, a stop or a rest: the jobs left, by queue, and the grace left."""
    if status.summary.get("state") not in _LEAVING:
        return []
    parts: list[Span] = [(jobs_by_queue(status.in_state("busy")), "odd")]
    if stop_by := status.summary.get("stop_by"):
        parts.append((f"grace left {seconds(stop_by - time.monotonic())}", "odd"))
    return parts


def jobs_by_queue(busy: Sequence[WorkerLine]) -> str:
    """`3 jobs left (high 1, mails 2)`."""
    counts = Counter(line.queue or "?" for line in busy)
    named = ", ".join(f"{plain(name)} {count}" for name, count in sorted(counts.items()))
    left = f"{len(busy)} {'job' if len(busy) == 1 else 'jobs'} left"
    return f"{left} ({named})" if named else left


def leaving_text(status: ArbiterStatus) -> str:
    """The same as one line, for who waits for it."""
    return ", ".join(text for text, _ in _leaving(status))


def _queue_part(status: ArbiterStatus, width: int, *, everything: bool) -> list[Line]:
    shown = list(status.queues)
    if not everything:  # the worst first: only some are named
        found = [(queue, why) for queue in shown if (why := trouble(queue)) is not None]
        found.sort(key=lambda each: (each[1][1] != "bad", -(each[0].waiting or 0)))
        shown = [queue for queue, _ in found]
    lines: list[Line] = []
    others, waiting = (status.facts.others, status.facts.others_waiting) if status.facts else (0, 0)
    if not shown and not (everything and others):
        return lines
    lines.append([("queues" if everything else "queues that need a look", "heading")])
    many = len(shown) if everything else _FEW
    lines += queue_table(shown[:many], width)
    if len(shown) > many:
        lines.append([(f"  and {len(shown) - many} more (--all)", "dim")])
    if others and everything:
        lines.append([(f"  other ({others}): {waiting} waiting", "")])
    return [*lines, []]


def _busy_part(status: ArbiterStatus, width: int) -> list[Line]:
    busy = status.in_state("busy")
    if not busy:
        return []
    return [[("busy", "heading")], *busy_table(busy, width)]


def _folded(status: ArbiterStatus, width: int) -> list[Line]:
    """`idle: 3-31`."""
    lines: list[Line] = []
    for state in _FOLDED:
        found = [line for line in status.in_state(state) if line.number != TRIAL]
        if found:
            colour = "bad" if state == "down" else "dim" if state == "idle" else "odd"
            numbers = ranges(line.number for line in found)
            parts = [(part, colour) for part in numbers.split(", ")]
            parts[0] = (f"{state}: {parts[0][0]}", colour)
            lines += flow(parts, width)
    for line in status.workers:
        if line.number == TRIAL:
            lines.append([(f"trial worker of generation {line.generation}: {line.state}", "odd")])
    return lines
