"""The commands of `resquedctl` that only look: status, top, events, stacks, config."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from resqued.ctl.choice import REFUSED, chosen, chosen_pid
from resqued.exits import ExitCode
from resqued.printable import printable
from resqued.status.chosen import NoArbiter

_PATIENCE: Final = 10.0
"""Seconds for an answer of facts."""

_JSON: Final = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Each worker, and each queue.")
@_JSON
@click.option("--watch", is_flag=True, help="Again each second, until Control-C.")
@click.option("--ready", is_flag=True, help="Exit 69 if no worker is ready: a health check.")
@click.pass_context
def status_command(
    context: click.Context, everything: bool, as_json: bool, watch: bool, ready: bool
) -> None:
    """What runs, what waits, what is wrong; also if the arbiter's loop stands still.

    The arbiter, Redis, the last reload; queues that need a look; busy workers with their jobs, the
    age of each and its timeout. The other workers are folded. In at most 80 columns; --all takes
    the whole width.
    """
    from resqued.status import show

    if watch and ready:
        raise click.UsageError("--ready looks once: it goes without --watch")
    pid = chosen_pid(context)
    try:
        if watch:
            code = show.watch(pid, as_json=as_json, everything=everything)
        else:
            code = show.show(pid, as_json=as_json, ready=ready, everything=everything)
    except KeyboardInterrupt:
        code = ExitCode.OK
    except NoArbiter as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    context.exit(code)


@click.command()
@click.pass_context
def top_command(context: click.Context) -> None:
    """The whole screen, each second anew: the arbiter, its queues, workers and last events.

    Keys: q quits, s chooses what the workers are sorted by, i shows idle ones, arrows choose a
    worker, enter tells what there is to know of it, with the stacks of what it runs.
    """
    from resqued.ctl import top

    if problem := top.missing():
        click.echo(problem, err=True)
        context.exit(ExitCode.USAGE)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        text = "top needs a terminal; without one there is `resquedctl status --watch`"
        raise click.UsageError(text)
    chosen_pid(context)
    try:
        click.echo(top.run(chosen(context)), nl=False)
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="And then each as it happens.")
@_JSON
@click.pass_context
def events_command(context: click.Context, follow: bool, as_json: bool) -> None:
    """The last 200 events of the arbiter: workers, reloads, signals, the steward, Redis.

    They have the names and fields that they have in the log, and survive a re-exec. What happens
    to each job is in the log alone.
    """
    try:
        for event in _followed(context) if follow else _last(context):
            click.echo(json.dumps(event) if as_json else event_text(event))
    except KeyboardInterrupt:
        context.exit(ExitCode.OK)


def _last(context: click.Context) -> Iterator[dict[str, Any]]:
    from resqued.control.packets import ControlRequest
    from resqued.ctl.ask import answers

    for answer in answers(context, ControlRequest("events"), _PATIENCE):
        yield from answer.facts.get("events", ())


def _followed(context: click.Context) -> Iterator[dict[str, Any]]:
    from resqued.control.client import NotReached
    from resqued.ctl.ask import reachable, unreached
    from resqued.ctl.follow import follow

    try:
        yield from follow(reachable(context))
    except NotReached as error:
        click.echo(printable(str(error)), err=True)
        context.exit(unreached(error))


def event_text(event: dict[str, Any]) -> str:
    """`14:03:07.123  worker_exited  worker=3 gen=1 pid=812 ended: signal SIGKILL`."""
    from datetime import datetime

    facts = dict(event)
    when = datetime.fromtimestamp(facts.pop("time", 0)).isoformat(" ", "milliseconds")
    name, text = facts.pop("event", ""), facts.pop("text", "")
    level = facts.pop("level", "INFO")
    mark = "" if level == "INFO" else f"{level} "
    if not text:
        text = " ".join(f"{key}={value}" for key, value in facts.items())
    return printable(f"{when}  {name:<16}  {mark}{text}")


@click.command()
@click.argument("numbers", type=click.IntRange(min=0), nargs=-1, metavar="[NUMBER]...")
@click.pass_context
def stacks_command(context: click.Context, numbers: tuple[int, ...]) -> None:
    """Where the code of workers is now: of these, or of all busy ones. Nothing is killed.

    The stacks are those of what runs the job: the child, with --isolation fork. The arbiter's loop
    is not asked; it copies them to the log, too.
    """
    from resqued.ctl.stacks import NoStacks, stacks
    from resqued.status.reader import StatusReader

    pid, code = chosen_pid(context), 0
    try:
        with StatusReader(pid) as reader:
            lines = {line.number: line for line in reader.read(memory=False).workers}
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)
    busy = [number for number, line in lines.items() if line.state == "busy"]
    for number in numbers or busy:
        if number not in lines:
            click.echo(f"there is no worker {number}", err=True)
            code = REFUSED
            continue
        line = lines[number]
        try:
            found = stacks(pid, line)
        except NoStacks as error:
            click.echo(f"worker {number}: {error}", err=True)
            code = REFUSED
            continue
        job = f"{line.function} job={line.job_id}" if line.job_id else line.state
        what = f"worker={number} gen={line.generation} pid={line.horse or line.pid} {job}"
        click.echo(f"{printable(what)}\n{printable(found, lines=True)}\n")
    if not numbers and not busy:
        click.echo("no worker is busy", err=True)
    context.exit(code)


@click.command()
@_JSON
@click.pass_context
def config_command(context: click.Context, as_json: bool) -> None:
    """Each setting that the arbiter has in force: its value, where that came from, and what it
    overrules. Secrets are not shown.

    `resqued --print-config` shows what a start would have.
    """
    from resqued.control.packets import ControlRequest
    from resqued.ctl.ask import answers

    for answer in answers(context, ControlRequest("config"), _PATIENCE):
        settings = answer.facts.get("settings", [])
        if as_json:
            click.echo(json.dumps(settings, indent=2))
            continue
        from resqued.settings.shown import lines

        for line in lines(settings):
            click.echo(printable(line))
        if difference := answer.facts.get("difference"):
            click.echo(f"workers: {difference:+d} by signals or verbs since", err=True)
