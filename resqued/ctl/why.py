"""`resquedctl why`: the story of a job, a queue or a worker in plain words."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from resqued.ctl.chosen_redis import URL, with_redis
from resqued.ctl.why_here import ArbiterLook
from resqued.exits import ExitCode
from resqued.printable import printable
from resqued.status.chosen import ChosenArbiter, NoArbiter, choose
from resqued.why.facts import JobFacts, QueueNow, SlotFacts, Told
from resqued.why.job import tell_job
from resqued.why.queue import tell_queue
from resqued.why.worker import tell_worker

if TYPE_CHECKING:
    from resqued.broker.queue_now import Here

UNKNOWN: Final = 1
"""Exit status: nothing is known of what was asked for."""

_KINDS: Final = ("job", "queue", "worker")
_UNKNOWN: Final = ("unknown", "unwanted")


@dataclass(frozen=True)
class StorySubject:
    """What a story is told of."""

    kind: str  # job, queue or worker
    name: str
    facts: JobFacts | QueueNow | SlotFacts

    def told(self, now: float) -> Told:
        """now: Unix seconds."""
        if isinstance(self.facts, JobFacts):
            return tell_job(self.facts, now)
        if isinstance(self.facts, QueueNow):
            return tell_queue(self.facts, now)
        return tell_worker(self.facts, now)


@click.command("why")
@click.argument("words", nargs=-1, required=True, metavar="JOB | QUEUE | worker N")
@URL
@click.option("--json", "as_json", is_flag=True, help="For machines: with all that is known.")
@click.pass_context
def why_command(
    context: click.Context, words: tuple[str, ...], url: str | None, as_json: bool
) -> None:
    """Why a job does not run, or what became of it; why a queue does not drain; why a worker left.

    A job is named by its id, whatever host it ran on. Where a queue has the name of a job, both
    stories are told: `why job NAME` and `why queue NAME` mean one. Exit status: 1 if nothing is
    known of it.
    """
    kind, name = _read(words)
    if kind == "worker":
        subjects = [_worker(context, name)]
    else:
        here = _here(context) if url is None else None  # it may have another Redis
        subjects = with_redis(
            context, url, "resquedctl why", lambda client: _look(client, kind, name, here)
        )
    now = time.time()
    told = [(each, each.told(now)) for each in subjects]
    if as_json:
        stories = [_plain(subject, story) for subject, story in told]
        click.echo(json.dumps({"stories": stories}, indent=2))
    else:
        for number, (subject, story) in enumerate(told):
            if number:
                click.echo()
            for line in _text(subject, story):
                click.echo(line)
    if not kind and (name == "worker" or name.isdecimal()):
        example = name if name.isdecimal() else "3"
        click.echo(f"of a worker tells: resquedctl why worker {example}", err=True)
    context.exit(UNKNOWN if all(story.state in _UNKNOWN for _, story in told) else ExitCode.OK)


def _read(words: Sequence[str]) -> tuple[str, str]:
    """What is asked for; without a kind: job or queue, by its name."""
    try:
        words = [os.fsencode(word).decode() for word in words]
    except UnicodeDecodeError:
        raise click.UsageError("a name is not UTF-8: RQ has no such names") from None
    if len(words) == 2 and words[0] in _KINDS:
        return words[0], words[1]
    if len(words) == 1:
        return "", words[0]
    raise click.UsageError(
        "give one job's id, one queue's name, or one of: job ID, queue NAME, worker NUMBER"
    )


def _worker(context: click.Context, word: str) -> StorySubject:
    if not word.isdecimal() or not int(word):
        raise click.UsageError(f"{word!r} is no number of a worker: 1, 2, ..")
    try:
        with ArbiterLook(_with_pid(choose(**context.find_root().obj))) as look:
            return StorySubject("worker", word, look.slot(int(word)))
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)


def _with_pid(chosen: ChosenArbiter) -> ChosenArbiter:
    if not chosen.pid:
        raise NoArbiter(f"{chosen.control}: no arbiter of this user says that it listens there")
    return chosen


def _here(context: click.Context) -> Here | None:
    """What the arbiter knows, if one is named or is the only one; it is not needed."""
    try:
        with ArbiterLook(_with_pid(choose(**context.find_root().obj))) as look:
            return look.here()
    except NoArbiter:
        return None


def _look(client: Any, kind: str, name: str, here: Here | None) -> list[StorySubject]:
    """What there is of this name. Raises redis errors."""
    from resqued.broker.job_facts import JobLook
    from resqued.broker.queue_now import Here, read_queue

    here = here or Here()
    found = []
    if kind != "queue":
        found.append(StorySubject("job", name, JobLook(client, here).read(name)))
    if kind != "job":
        found.append(StorySubject("queue", name, read_queue(client, name, here)))
    known = [each for each in found if not _is_unknown(each.facts)]
    return known or found


def _is_unknown(facts: Any) -> bool:
    if isinstance(facts, QueueNow):
        return not facts.known
    return facts.kind == "none" and not (
        facts.holders or facts.places or facts.registries or facts.events
    )


def _text(subject: StorySubject, story: Told) -> Iterator[str]:
    """In as many columns as a terminal has; elsewhere a sentence a line. Whatever any client of
    Redis has written there, a terminal does not obey it."""
    wide = min(100, os.get_terminal_size().columns) if sys.stdout.isatty() else 0
    head = f"{subject.kind} {printable(subject.name)}: "
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for number, (start, raw) in enumerate(
        [
            (head, story.headline),
            *(("  ", line) for line in story.lines),
            *(("  To do: ", remedy + ".") for remedy in story.remedies),
        ]
    ):
        text = printable(raw)
        lines = textwrap.wrap(start + text, wide, subsequent_indent="  ") if wide > 20 else []
        if number and wide > 20:
            lines = textwrap.wrap(
                start + text, wide, subsequent_indent="    ", drop_whitespace=True
            )
        for line in lines or [start + text]:
            yield click.style(line, bold=True) if bold and not number else line


def _plain(subject: StorySubject, story: Told) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.name,
        **asdict(story),
        "facts": asdict(subject.facts),
    }
