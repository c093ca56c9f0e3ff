"""What the ledger tells of each job: its attempts, how they ended, and which faults hit them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.ledger import Entry
from nemesis.striking import Strike


@dataclass
class Attempt:
    """One run of a job. ended: `end`, `raised` or `cut`; empty if its process died in it."""

    job_id: str
    pid: int
    at: float
    ended: str = ""
    ended_at: float = 0.0
    overlaps: bool = False


def attempts(entries: Sequence[Entry]) -> dict[str, list[Attempt]]:
    """By job, in the order in which they began."""
    by_name: dict[tuple[str, str], Attempt] = {}
    found: dict[str, list[Attempt]] = {}
    for entry in entries:
        name = (entry.job_id, entry.attempt)
        if entry.word == "start":
            by_name[name] = Attempt(entry.job_id, entry.pid, entry.at)
            found.setdefault(entry.job_id, []).append(by_name[name])
        elif entry.word == "called":
            continue
        elif entry.word == "overlap":
            by_name[name].overlaps = True
        else:
            by_name[name].ended, by_name[name].ended_at = entry.word, entry.at
    return found


def called(entries: Sequence[Entry]) -> set[str]:
    """Ids of jobs of which a callback was called."""
    return {entry.job_id for entry in entries if entry.word == "called"}


def repeats(tries: Sequence[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Pairs of an attempt that did not raise and the one after it."""
    return [(first, second) for first, second in itertools.pairwise(tries) if not _raised(first)]


def _raised(attempt: Attempt) -> bool:
    return attempt.ended == "raised"


def unexcused(
    tries: Sequence[Attempt], strikes: Sequence[Strike], wanted: int = 0
) -> list[tuple[Attempt, Attempt]]:
    """Those of `repeats` that no fault explains and nobody has asked for.

    wanted: how often the job was to run again after it had come through. Which of its runs these
    were nobody can tell from outside, so a fault may have struck any of them.
    """
    pairs = [pair for pair in repeats(tries) if not is_excused(*pair, strikes)]
    asked_for = [pair for pair in pairs if pair[0].ended == "end"][:wanted]
    return [pair for pair in pairs if pair not in asked_for]


def is_excused(first: Attempt, second: Attempt, strikes: Sequence[Strike]) -> bool:
    """Whether a fault interrupted the first: its process was killed, or told to stop at once.

    Nothing that is done to Redis, to a fork server or to the arbiter is a reason to run a job
    again: jobs in hand finish, and are written.
    """
    for strike in strikes:
        if strike.skipped or strike.at > second.at:
            continue
        if strike.pid == first.pid or (strike.kind == "TERM" and strike.until >= first.at):
            return True
    return False


def recovery_times(
    history: Mapping[str, Sequence[Attempt]],
    strikes: Sequence[Strike],
    ended_at: Mapping[str, float],
) -> dict[str, float]:
    """For each job whose process was killed in it: seconds to its next start, or to its end.

    ended_at: when the job's last outcome was written, by the wall clock.
    """
    killed = {strike.pid: strike for strike in strikes if strike.pid is not None}
    times = {}
    for tries in history.values():
        for number, each in enumerate(tries):
            strike = killed.get(each.pid)
            if strike is None or each.ended or strike.at < each.at:
                continue
            if number + 1 < len(tries):
                times[each.job_id] = tries[number + 1].at - strike.at
            elif each.job_id in ended_at:
                times[each.job_id] = ended_at[each.job_id] - strike.wall
    return times


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest that so large a part of them does not exceed; NaN if there are none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))] if ranked else float("nan")
