"""The story of a job whose data is not in Redis, or was overwritten."""

from __future__ import annotations

from resqued.why.facts import JobFacts, Told
from resqued.why.words import clock, listing, named, ordinal

_GONE = "deleted, expired or evicted"


def tell_gone(facts: JobFacts, now: float) -> Told:
    """kind: anything but hash."""
    if facts.kind != "none":
        return Told(
            "overwritten",
            f"Its key is a {facts.kind} and no hash: another program has overwritten it.",
            ("No worker can run it; whoever takes it fails it.",),
        )
    if facts.holders:
        held = facts.holders[0]
        who = named(held.worker.name) + (f" on {held.worker.host}" if held.worker.host else "")
        return Told(
            "running",
            f"It runs in the worker {who}, but its data is gone: {_GONE} while it ran.",
            ("Its outcome will not be kept.",),
        )
    if facts.places:
        name, places = next(iter(facts.places.items()))
        return Told(
            "expired_in_queue",
            f"Its id waits in {named(name)} ({ordinal(places[0])}), but its data is gone: {_GONE}.",
            (
                "A job with a `ttl` expires when it has waited for so long.",
                "The worker that comes to it passes over it.",
            ),
        )
    if facts.registries:
        return Told(
            "gone",
            f"RQ lists it as {listing(facts.registries)} in {named(facts.queue)}, but its data is"
            f" gone: {_GONE}.",
            ("Most likely it was kept for as long as its result or failure was to be kept.",),
        )
    if facts.events:
        last = facts.events[-1]
        return Told(
            "gone",
            f"It is not in Redis any more: {_GONE}. The last that is known of it is of"
            f" {clock(last.at, now)}.",
            ("What became of it after that is not known.",),
        )
    near = (
        f" Is {listing([named(each) for each in facts.near], last='or')} meant?"
        if facts.near
        else ""
    )
    return Told(
        "unknown",
        f"There is no job with this id in Redis.{near}",
        (
            "Either it never existed there (another Redis, or a wrong id), or it is over and has"
            " expired: RQ keeps a result for 500 s if nothing else was asked for, a failure for a"
            " year. Nothing that is left can tell which.",
        ),
    )
