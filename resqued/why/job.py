"""The story of a job: where it is, why it is there, and what has happened to it before."""

from __future__ import annotations

import shlex

from resqued.printable import printable
from resqued.why.facts import Held, JobFacts, PastEvent, Told, WorkerFacts
from resqued.why.missing import tell_missing
from resqued.why.queue import hindrances
from resqued.why.words import clock, counted, listing, megabytes, named, ordinal, rate, span, times

CLOSE = 10.0
"""Seconds between the end of a job and the event that tells of it."""

ABANDONED = 60.0
"""Seconds until RQ's maintenance fails a job that it finds in an intermediate list."""


def tell_job(facts: JobFacts, now: float) -> Told:
    """now: Unix seconds."""
    story = _present(facts, now)
    lines: tuple[str, ...] = ()
    if facts.queue and facts.function and facts.kind == "hash":
        lines = (f"Its function is {named(facts.function)}, its queue {named(facts.queue)}.",)
    past = tuple(_past(facts, now))
    return Told(story.state, story.headline, (*lines, *story.lines, *past), story.remedies)


def _present(facts: JobFacts, now: float) -> Told:
    if facts.kind != "hash":
        return tell_missing(facts, now)
    if facts.holders:
        return _held(facts, now)
    if facts.places:
        return _waiting(facts, now)
    if facts.transit:
        return _in_transit(facts)
    match facts.status:
        case "started":
            return _started_nowhere(facts, now)
        case "queued":
            return _lost(facts)
        case "scheduled":
            return _scheduled(facts, now)
        case "deferred":
            return _deferred(facts)
        case "rate_limited":
            return _rate_limited(facts)
        case "finished":
            return _finished(facts, now)
        case "failed":
            return _failed(facts, now)
        case "stopped":
            return _stopped(facts, now)
        case "canceled":
            return _canceled(facts)
        case "created" | "":
            return _created(facts)
    return Told(facts.status, f"RQ calls it {named(facts.status)}, which resqued does not know.")


def worker_words(worker: WorkerFacts) -> str:
    """`worker 3 on web1 (generation 2)`, `RQ's worker 'x' on web1`."""
    where = f" on {worker.host}" if worker.host else ""
    if worker.stock:
        return f"RQ's own worker {named(worker.name)}{where}"
    if not worker.number:
        return f"the worker {named(worker.name)}{where}"
    if not worker.host:
        return f"worker {worker.number} ({named(worker.name)})"
    generation = f" (generation {worker.generation})" if worker.generation else ""
    return f"worker {worker.number}{where}{generation}"


# A worker has it.


def _held(facts: JobFacts, now: float) -> Told:
    held = next((each for each in facts.holders if each.alive is not False), facts.holders[0])
    who = worker_words(held.worker)
    if held.alive is False or not held.worker.registered:
        return _of_a_dead_worker(facts, held, who, now)
    lines = []
    if len(facts.holders) > 1:
        others = [worker_words(each.worker) for each in facts.holders if each is not held]
        lines.append(f"It also runs in {listing(others)}: its id has been queued more than once.")
    if facts.places:
        lines.append(_also_queued(facts))
    if held.stale:
        lines.append(
            "Nothing was heard of it for so long that RQ's maintenance would call it abandoned."
        )
    if not held.begun:
        return Told("taken", f"It was taken by {who}, and is about to begin.", tuple(lines))
    since = (
        f", since {clock(facts.started, now)} ({span(now - facts.started)})"
        if facts.started
        else ""
    )
    lines.insert(0, _timeout(facts, now))
    if facts.deaths or facts.interruptions or facts.retries_done:
        lines.insert(1, _attempts(facts))
    return Told("running", f"It runs in {who}{since}.", tuple(lines))


def _timeout(facts: JobFacts, now: float) -> str:
    limit = facts.timeout
    if limit is None:
        return "Its timeout is the queue's default."
    if limit < 0:
        return "It has no timeout."
    if facts.started is None:
        return f"Its timeout is {span(limit)}."
    left = facts.started + limit - now
    if left >= 0:
        return f"Its timeout is {span(limit)}: it may run for another {span(left)}."
    return f"It is {span(-left)} past its timeout of {span(limit)}, and does not end by itself."


def _attempts(facts: JobFacts) -> str:
    parts = []
    if facts.retries_done:
        parts.append(f"was retried {times(facts.retries_done)}")
    if facts.interruptions:
        parts.append(f"was put back {times(facts.interruptions)} by stops of its worker")
    if facts.deaths:
        parts.append(f"has killed its process {times(facts.deaths)}")
    return f"It {listing(parts)} before."


def _of_a_dead_worker(facts: JobFacts, held: Held, who: str, now: float) -> Told:
    did = "ran in" if held.begun else "was taken by"
    if held.worker.stock:
        after = "RQ's maintenance fails or retries it, at the latest ten minutes after its timeout."
    elif held.worker.here:
        after = "Its recovery is on its way: it is put back, retried or failed within seconds."
    else:
        after = (
            "If its arbiter is gone too, another one that serves the queue puts it back, when"
            " nothing was heard for so long as --dead-after says (120 s by default)."
        )
    since = f" since {clock(facts.started, now)}" if facts.started and held.begun else ""
    return Told("lost_worker", f"It {did} {who}{since}, which has died.", (after,))


def _started_nowhere(facts: JobFacts, now: float) -> Told:
    who = f" by {worker_words(facts.worker)}" if facts.worker is not None else ""
    since = f" at {clock(facts.started, now)}" if facts.started else ""
    return Told(
        "started_nowhere",
        f"Its status says that it was started{since}{who}, but no worker holds it.",
        (
            "Its worker has died, or Redis has gone back to an older state or lost RQ's registry.",
            "RQ's maintenance ends what its registry of started jobs lists; this job is"
            + (" listed there." if "started" in facts.registries else " not listed there."),
        ),
        ("enqueue it again if it has to run: nothing else will start it",)
        if "started" not in facts.registries
        else (),
    )


# It waits.


def _waiting(facts: JobFacts, now: float) -> Told:
    name, places = next(iter(facts.places.items()))
    if facts.queue in facts.places:
        name, places = facts.queue, facts.places[facts.queue]
    queue = facts.at
    total = f" of {queue.waiting:,}" if queue is not None and queue.name == name else ""
    headline = f"It waits in {named(name)}: {ordinal(places[0])}{total}"
    lines, remedies = [], []
    if facts.enqueued:
        lines.append(
            f"It was enqueued at {clock(facts.enqueued, now)}, {span(now - facts.enqueued)} ago."
        )
    if len(places) > 1 or len(facts.places) > 1:
        lines.append(_also_queued(facts))
    if facts.status not in ("queued", ""):
        lines.append(f"But its status is {facts.status}, so RQ does not count it as queued.")
    state = "waiting"
    if queue is not None and queue.name == name:
        found = hindrances(queue, now)
        if found.because:
            headline += f", {found.because}"
            state = found.state
        lines += found.lines
        remedies += found.remedies
        if not found.stands and queue.per_minute:
            lines.append(
                f"At {rate(queue.per_minute)} it starts in about"
                f" {span((places[0] - 1) / queue.per_minute * 60)}."
            )
    if facts.retries_done:
        lines.append(_retries(facts))
    return Told(state, f"{headline}.", tuple(lines), tuple(remedies))


def _also_queued(facts: JobFacts) -> str:
    shown = [
        f"{listing([ordinal(place) for place in places])} in {named(name)}"
        for name, places in facts.places.items()
    ]
    count = sum(map(len, facts.places.values()))
    if count == 1:
        return f"Its id also waits in a queue ({listing(shown)}): it will run once more."
    return f"Its id is in queues {times(count)} ({listing(shown)}): it runs once for each."


def _in_transit(facts: JobFacts) -> Told:
    return Told(
        "in_transit",
        f"It is on its way from {named(facts.transit)} to a worker, in RQ's intermediate list.",
        (
            "A worker of RQ's own has taken it, and is about to begin it or has died in between.",
            f"RQ's maintenance fails it when it has seen it there for {ABANDONED:.0f} s.",
        ),
    )


def _lost(facts: JobFacts) -> Told:
    return Told(
        "lost",
        f"Its status is queued, but it is in no queue: {named(facts.queue)} does not have it.",
        (
            "It was lost on its way to a worker (RQ's own lose jobs so when they are stopped"
            " between taking and beginning one), or its queue was emptied or deleted.",
        ),
        ("enqueue it again: nothing else will start it",),
    )


def _scheduled(facts: JobFacts, now: float) -> Told:
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


def _retries(facts: JobFacts) -> str:
    done, left = facts.retries_done, facts.retries_left or 0
    return f"This is retry {done} of {done + left}."


def _deferred(facts: JobFacts) -> Told:
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
            (f"`{_requeue(first.queue, first.id)}`: if that finishes, this one is enqueued",)
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


def _rate_limited(facts: JobFacts) -> Told:
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


# It is over.


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


def _finished(facts: JobFacts, now: float) -> Told:
    lines = [*_where(facts), *_kept(facts)]
    if facts.retries_done:
        lines.insert(0, f"It was retried {times(facts.retries_done)} before.")
    return Told("finished", f"It has finished{_at(facts, now)}{_took(facts)}.", tuple(lines))


def _failed(facts: JobFacts, now: float) -> Told:
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
        (f"`{_requeue(facts.queue, facts.id)}` runs it again",)
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


def _requeue(queue: str, job_id: str) -> str:
    """The command that does it."""
    return shlex.join(["rq", "requeue", "--queue", printable(queue), printable(job_id)])


def _stopped(facts: JobFacts, now: float) -> Told:
    return Told(
        "stopped",
        f"It was stopped by a command{_at(facts, now)}{_took(facts)}.",
        (*_where(facts), "A stopped job is not retried.", *_kept(facts)),
    )


def _canceled(facts: JobFacts) -> Told:
    return Told(
        "canceled",
        "It was canceled before it ran: somebody has called `job.cancel()`.",
        _kept(facts),
        ("`job.requeue()` enqueues it again",),
    )


def _created(facts: JobFacts) -> Told:
    return Told(
        "created",
        "It was created, and never enqueued.",
        _kept(facts),
        ("enqueue it with `queue.enqueue_job(job)`",),
    )


# Before.

_WHAT = {
    "put_back": "put back to the front of its queue",
    "retried": "to be retried",
    "failed": "failed",
    "stopped": "stopped",
}


def _past(facts: JobFacts, now: float) -> list[str]:
    """What has happened to it out of the ordinary, the oldest first."""
    return [_event(each, now) for each in facts.events]


def _event(event: PastEvent, now: float) -> str:
    who = worker_words(event.worker) if event.worker.name else "an unknown worker"
    what = _WHAT.get(event.what, event.what)
    left = ""
    if event.left >= 0:
        left = f", with {counted(event.left, 'more retry', 'more retries')}"
    memory = f"; it had {megabytes(event.memory)}" if event.memory else ""
    return f"{clock(event.at, now)}: {what}{left}, by {who}: {event.cause.rstrip('.; ')}{memory}."
