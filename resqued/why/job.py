"""The story of a job: where it is, why it is there, and what has happened to it before."""

from __future__ import annotations

from resqued.why.ended import tell_canceled, tell_created, tell_failed, tell_finished, tell_stopped
from resqued.why.facts import Held, JobFacts, Told
from resqued.why.gone_jobs import tell_gone
from resqued.why.later import retries_words, tell_deferred, tell_rate_limited, tell_scheduled
from resqued.why.past import tell_past
from resqued.why.queue import hindrances
from resqued.why.words import clock, listing, named, ordinal, rate, span, times, worker_words

ABANDONED = 60.0
"""Seconds until RQ's maintenance fails a job that it finds in an intermediate list."""


def tell_job(facts: JobFacts, now: float) -> Told:
    """now: Unix seconds."""
    story = _present(facts, now)
    lines: tuple[str, ...] = ()
    if facts.queue and facts.function and facts.kind == "hash":
        lines = (f"Its function is {named(facts.function)}, its queue {named(facts.queue)}.",)
    past = tuple(tell_past(facts, now))
    return Told(story.state, story.headline, (*lines, *story.lines, *past), story.remedies)


def _present(facts: JobFacts, now: float) -> Told:
    if facts.kind != "hash":
        return tell_gone(facts, now)
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
            return tell_scheduled(facts, now)
        case "deferred":
            return tell_deferred(facts)
        case "rate_limited":
            return tell_rate_limited(facts)
        case "finished":
            return tell_finished(facts, now)
        case "failed":
            return tell_failed(facts, now)
        case "stopped":
            return tell_stopped(facts, now)
        case "canceled":
            return tell_canceled(facts)
        case "created" | "":
            return tell_created(facts)
    return Told(facts.status, f"RQ calls it {named(facts.status)}, which resqued does not know.")


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
        lines.append(retries_words(facts))
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
