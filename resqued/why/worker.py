"""The story of a worker of an arbiter here: why it has left, is young, is slow, or waits."""

from __future__ import annotations

from resqued.why.facts import PastExit, SlotFacts, Told
from resqued.why.words import clock, counted, listing, megabytes, named, span, times

YOUNG = 120.0
"""Seconds until the age of a worker needs no explanation any more."""

QUIET = 5.0
"""Seconds without a sign of life that are mentioned."""

CAUSES = {
    "stop": "the arbiter stopped",
    "rest": "the arbiter was told to rest",
    "reload": "a reload put another generation in service",
    "plan": "its number was to serve other queues",
    "scale": "there were to be fewer workers",
    "recycle": "somebody asked for another in its place",
    "stuck": "it was stuck",
    "shutdown": "it was shut down by RQ's command",
    "orphaned": "its fork server was gone",
}
ASKED = "on request"
REASONS = {
    ASKED: "it was told to leave",
    "recycled": "it was recycled (a limit on jobs, age or memory, or a plugin's `should_recycle`)",
    "queues empty": "its queues were empty (--burst)",
    "after its job was cut": "its last job was cut by a timeout or a stop, which replaces a worker",
}
"""By the reason of the event `worker_exited`."""


def tell_worker(facts: SlotFacts, now: float) -> Told:
    """now: Unix seconds."""
    story = _present(facts, now)
    lines = list(story.lines)
    before = list(facts.exits[-5:])
    if facts.alive and facts.age is not None and facts.age < YOUNG and before:
        lines.append(f"It is young ({span(facts.age)}): {_before(before.pop(), now)}")
    lines += [_exit(each, now) for each in before]
    return Told(story.state, story.headline, tuple(lines), story.remedies)


def _present(facts: SlotFacts, now: float) -> Told:
    if not facts.alive:
        return _absent(facts, now)
    who = f"Worker {facts.number}, pid {facts.pid}, generation {facts.generation},"
    lines = list(_about(facts))
    if facts.told:
        cause = CAUSES.get(facts.told, facts.told)
        what = "has to give its job back" if facts.now else "finishes its job and leaves"
        if not facts.job:
            what = "is leaving"
        return Told("leaving", f"{who} {what}: {cause}.", tuple(lines))
    match facts.phase:
        case "booting":
            return Told("booting", f"{who} boots since {_for(facts)}.", tuple(lines))
        case "connecting":
            return _connecting(facts, who, lines)
        case "idle":
            return _idle(facts, who, lines)
    if facts.phase in ("leaving", "left"):
        return Told("leaving", f"{who} is leaving.", tuple(lines))
    return _busy(facts, who, lines)


def _for(facts: SlotFacts) -> str:
    return span(facts.age or 0.0)


def _about(facts: SlotFacts) -> list[str]:
    lines = (
        [f"It serves {listing([named(each) for each in facts.queues], 8)}."] if facts.queues else []
    )
    if facts.age is not None:
        memory = f", and has {megabytes(facts.memory)}" if facts.memory else ""
        failed = f", {facts.failed:,} of them failed" if facts.failed else ""
        done = f"has done {counted(facts.done, 'job')}{failed}{memory}"
        lines.append(f"It has lived for {span(facts.age)} and {done}.")
    if facts.current and facts.generation and facts.generation < facts.current:
        lines.append(f"Its generation is old: {facts.current} is in service.")
    return lines


def _connecting(facts: SlotFacts, who: str, lines: list[str]) -> Told:
    since = f" for {span(facts.redis_since)}" if facts.redis_since else ""
    why = f": {facts.redis_error}" if facts.redis_error else ""
    return Told(
        "no_redis", f"{who} waits for Redis, which does not answer{since}{why}.", tuple(lines)
    )


def _idle(facts: SlotFacts, who: str, lines: list[str]) -> Told:
    if facts.redis_error:
        since = f" for {span(facts.redis_since)}" if facts.redis_since else ""
        return Told(
            "no_redis",
            f"{who} is idle, and Redis does not answer{since}: {facts.redis_error}.",
            tuple(lines),
        )
    if facts.suspended:
        return Told(
            "suspended",
            f"{who} is idle: workers are suspended (`rq suspend`).",
            tuple(lines),
            ("`rq resume`",),
        )
    if facts.paused and set(facts.paused) == set(facts.queues):
        return Told(
            "paused",
            f"{who} is idle: all its queues are paused.",
            tuple(lines),
            ("`resquedctl queue resume NAME`",),
        )
    if facts.paused:
        lines.append(f"Of its queues {listing([named(each) for each in facts.paused])} is paused.")
    return Told(
        "idle", f"{who} is idle: nothing waits in its queues that it may take.", tuple(lines)
    )


def _busy(facts: SlotFacts, who: str, lines: list[str]) -> Told:
    what = f"{facts.function} ".lstrip() + f"(job {facts.job}, queue {named(facts.queue)})"
    since = f" since {span(facts.job_age)}" if facts.job_age is not None else ""
    state, headline = "busy", f"{who} runs {what}{since}."
    if facts.phase == "returned":
        headline = f"{who} writes the outcome of {what}."
        if facts.redis_error:
            return Told(
                "no_redis",
                f"{headline[:-1]}, and Redis does not answer: {facts.redis_error}.",
                tuple(lines),
            )
    elif facts.phase in ("taken", "prepared"):
        headline = f"{who} is about to run {what}."
    if facts.overdue > 0:
        state = "stuck"
        headline = f"{who} is stuck in {what}: {span(facts.overdue)} past its deadline."
        lines.insert(
            0,
            "The hook `worker_stuck` decides; by default its stacks are logged, then it is killed.",
        )
    elif facts.timeout is not None and facts.timeout < 0:
        lines.insert(0, "Its job has no timeout.")
    elif facts.timeout and facts.job_age is not None:
        left = facts.timeout - facts.job_age
        text = (
            f"the job may run for another {span(left)}"
            if left >= 0
            else f"it is {span(-left)} over it"
        )
        lines.insert(0, f"The job's timeout is {span(facts.timeout)}: {text}.")
        if left < 0:
            state = "slow"
    return Told(
        state, headline, tuple(lines), (f"`resquedctl stacks {facts.number}` shows where it is",)
    )


def _absent(facts: SlotFacts, now: float) -> Told:
    number = facts.number
    if number > facts.wanted:
        why = f"there are to be {counted(facts.wanted, 'worker')}"
        if facts.mode in ("resting", "draining", "stopping"):
            why = f"the arbiter is {facts.mode}"
        return Told(
            "unwanted",
            f"There is no worker {number}: {why}.",
            (),
            (f"`resquedctl scale {number}`",) if facts.mode == "running" else (),
        )
    if facts.backs_off > 0:
        last = f" {_why(facts.exits[-1])}." if facts.exits else ""
        return Told(
            "backing_off",
            f"Worker {number} failed {times(facts.failures)} in a row; the next is started in"
            f" {span(facts.backs_off)}.",
            (f"The last one:{last}",) if last else (),
        )
    if facts.exits:
        return Told("starting", f"Worker {number} has left, and another is being started.")
    return Told("starting", f"Worker {number} is being started.")


def _before(last: PastExit, now: float) -> str:
    job = f" It held job {last.job}." if last.job else ""
    return f"the one before it left at {clock(last.at, now)}, since {_why(last)}.{job}"


def _exit(each: PastExit, now: float) -> str:
    job = f" It held job {each.job}." if each.job else ""
    return f"{clock(each.at, now)}: one left after {span(each.seconds)}: {_why(each)}.{job}"


def _why(each: PastExit) -> str:
    if each.out_of_memory:
        return "the kernel killed it, since memory was out"
    if not each.expected:
        return f"it died: {each.reason or 'the cause is not known'}"
    if each.cause and each.reason in (ASKED, ""):
        return CAUSES.get(each.cause, each.cause)
    return REASONS.get(each.reason, each.reason or "it ended")
