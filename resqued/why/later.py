"""The story of a job that is to run later: scheduled, deferred, or kept by a rate limit."""

from __future__ import annotations

from resqued.why.ended import requeue_command
from resqued.why.facts import JobFacts, Told
from resqued.why.queue import hindrances
from resqued.why.words import clock, counted, listing, named, span


def tell_scheduled(facts: JobFacts, now: float) -> Told:
    queue = named(facts.queue)
    if facts.due is None:
        return Told(
            "lost",
            f"Its status is scheduled, but the schedule of {queue} does not have it.",
            ("Its registry was deleted or evicted, so it never starts by itself.",),
            ("enqueue it again: nothing else will start it",),
        )
    late = now - facts.due
    when = f"at {clock(facts.due, now)}"
    if late < 0:
        when += f", in {span(-late)}"
    what, lines, remedies = "It is scheduled to be enqueued", [], []
    if facts.retries_done:
        what = f"Retry {facts.retries_done} of {facts.retries_done + (facts.retries_left or 0)} is"
    elif facts.ended and facts.retries_left is not None:
        what = "Its next try is"
        lines.append(f"After that {counted(facts.retries_left, 'retry', 'retries')} are left.")
    scheduler = facts.at.scheduler if facts.at is not None else None
    headline, state = f"{what} {when}", "scheduled"
    if scheduler is False:
        headline, state = f"{headline}, and no scheduler runs for {queue}", "no_scheduler"
        remedies.append(
            "start an arbiter that serves the queue, without --no-scheduler, or `rq worker -s`"
        )
    elif late > 5:
        lines.append(f"That was {span(late)} ago: the scheduler is behind, or cannot read the job.")
    if facts.at is not None:
        found = hindrances(facts.at, now)
        if found.stands:
            lines.append(f"Then it will wait in {queue}, {found.because}.")
            remedies += found.remedies
    return Told(state, f"{headline}.", tuple(lines), tuple(remedies))


def retries_words(facts: JobFacts) -> str:
    done, left = facts.retries_done, facts.retries_left or 0
    return f"This is retry {done} of {done + left}."


def tell_deferred(facts: JobFacts) -> Told:
    if not facts.dependencies:
        return Told(
            "deferred",
            "It is deferred, but the jobs that it depends on are not known any more.",
            remedies=("enqueue it again: nothing else will start it",),
        )
    failed = [each for each in facts.dependencies if each.status == "failed"]
    over = [each for each in facts.dependencies if each.status in ("canceled", "stopped")]
    open_ = [
        each
        for each in facts.dependencies
        if each.status not in ("", "finished", "failed", "canceled", "stopped")
    ]
    lines = [
        f"It depends on {named(each.id)}, which {_state_of(each.status)}."
        for each in facts.dependencies
    ]
    blocked = over or (failed and not facts.goes_on)
    if blocked:
        first = (failed if failed and not facts.goes_on else over)[0]
        word = {"failed": "has failed", "stopped": "was stopped", "canceled": "was canceled"}[
            first.status
        ]
        return Told(
            "dependency_failed",
            f"It never starts by itself: {named(first.id)}, on which it depends, {word}.",
            tuple(lines),
            (f"`{requeue_command(first.queue, first.id)}`: if that finishes, this one is enqueued",)
            if first.status == "failed"
            else ("enqueue it again without the dependency",),
        )
    if open_:
        names = listing([named(each.id) for each in open_])
        return Told(
            "deferred",
            f"It waits until {names} {'has' if len(open_) == 1 else 'have'} ended.",
            tuple(lines),
        )
    return Told(
        "deferred",
        "It is deferred, but all jobs that it depends on have ended.",
        (*lines, "The steward of an arbiter that serves its queue enqueues it within a minute."),
    )


def _state_of(status: str) -> str:
    return {
        "": "is not in Redis any more: RQ counts that as finished",
        "finished": "has finished",
        "failed": "has failed",
        "stopped": "was stopped",
        "canceled": "was canceled",
        "queued": "waits in its queue",
        "started": "runs",
        "deferred": "is deferred itself",
        "scheduled": "is scheduled",
        "created": "was never enqueued",
        "rate_limited": "waits for its rate limit",
    }.get(status, f"is {status}")


def tell_rate_limited(facts: JobFacts) -> Told:
    full = ""
    if facts.rate is not None:
        used, most = facts.rate
        full = f": {used} of {most} jobs have a slot of it"
    lines = ("It is enqueued when one of them ends.",)
    if facts.rate is not None and facts.rate[0] < facts.rate[1]:
        lines = ("There is a free slot; RQ's maintenance gives it one.",)
    return Told(
        "rate_limited", f"It waits for its rate limit {named(facts.rate_limit)}{full}.", lines
    )
