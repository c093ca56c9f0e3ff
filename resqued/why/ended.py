"""The story of a job that is over, or that was never enqueued."""

from __future__ import annotations

import shlex

from resqued.printable import printable
from resqued.why.facts import JobFacts, Told
from resqued.why.words import clock, counted, named, span, times, worker_words

CLOSE = 10.0
"""Seconds between the end of a job and the event that tells of it."""


def _took(facts: JobFacts) -> str:
    if facts.started is None or facts.ended is None or facts.ended < facts.started:
        return ""
    return f" after {span(facts.ended - facts.started)}"


def _at(facts: JobFacts, now: float) -> str:
    return f" at {clock(facts.ended, now)}" if facts.ended else ""


def _where(facts: JobFacts) -> tuple[str, ...]:
    return (f"It ran in {worker_words(facts.worker)}.",) if facts.worker is not None else ()


def _kept(facts: JobFacts) -> tuple[str, ...]:
    if facts.kept is None:
        return ("Its result is kept for ever.",) if facts.status == "finished" else ()
    return (f"Redis forgets it in {span(facts.kept)}.",)


def tell_finished(facts: JobFacts, now: float) -> Told:
    lines = [*_where(facts), *_kept(facts)]
    if facts.retries_done:
        lines.insert(0, f"It was retried {times(facts.retries_done)} before.")
    return Told("finished", f"It has finished{_at(facts, now)}{_took(facts)}.", tuple(lines))


def tell_failed(facts: JobFacts, now: float) -> Told:
    why = _why_failed(facts)
    why = f": {why}" if why else ""
    lines = list(_where(facts))
    if facts.retries_done:
        total = facts.retries_done + (facts.retries_left or 0)
        lines.append(f"It was retried {facts.retries_done} of {counted(total, 'time')}.")
    elif facts.retries_left is None:
        lines.append("It has no retries.")
    if facts.deaths:
        lines.append(f"It has killed its process {times(facts.deaths)}.")
    if "failed" not in facts.registries:
        lines.append(f"RQ's registry of failed jobs of {named(facts.queue)} does not list it.")
    lines += _kept(facts)
    return Told(
        "failed",
        f"It has failed{_at(facts, now)}{_took(facts)}{why}.",
        tuple(lines),
        (f"`{requeue_command(facts.queue, facts.id)}` runs it again",)
        if "failed" in facts.registries
        else (),
    )


def _why_failed(facts: JobFacts) -> str:
    """In the words of its story, if something else than its own exception has failed it."""
    for event in facts.events[-1:]:
        if event.what == "failed" and facts.ended and abs(event.at - facts.ended) < CLOSE:
            return event.cause.rstrip(".; ")
    for each in facts.results:
        if each.kind == "max_retries_exceeded":
            return "it returned Retry as often as it may"
        if each.kind == "failed":
            return each.last_line.rstrip(".; ")
    return ""


def requeue_command(queue: str, job_id: str) -> str:
    """The command that does it."""
    return shlex.join(["rq", "requeue", "--queue", printable(queue), printable(job_id)])


def tell_stopped(facts: JobFacts, now: float) -> Told:
    return Told(
        "stopped",
        f"It was stopped by a command{_at(facts, now)}{_took(facts)}.",
        (*_where(facts), "A stopped job is not retried.", *_kept(facts)),
    )


def tell_canceled(facts: JobFacts) -> Told:
    return Told(
        "canceled",
        "It was canceled before it ran: somebody has called `job.cancel()`.",
        _kept(facts),
        ("`job.requeue()` enqueues it again",),
    )


def tell_created(facts: JobFacts) -> Told:
    return Told(
        "created",
        "It was created, and never enqueued.",
        _kept(facts),
        ("enqueue it with `queue.enqueue_job(job)`",),
    )
