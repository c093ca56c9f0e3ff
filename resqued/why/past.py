"""What has happened to a job before, out of the ordinary."""

from __future__ import annotations

from resqued.why.facts import JobFacts, PastEvent
from resqued.why.words import clock, counted, megabytes, worker_words

_WHAT = {
    "put_back": "put back to the front of its queue",
    "retried": "to be retried",
    "failed": "failed",
    "stopped": "stopped",
}


def tell_past(facts: JobFacts, now: float) -> list[str]:
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
