"""The command `resquedctl`: steers a running arbiter over its control socket."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import click

from resqued import __version__
from resqued.command import status
from resqued.command.chosen import ChosenArbiter, NoArbiter, choose
from resqued.command.fleet import fleet_command
from resqued.command.queues import queue_group
from resqued.control import packets
from resqued.control.client import Connection, NotReached, TookTooLong
from resqued.control.packets import ControlRequest
from resqued.exits import ExitCode

REFUSED: Final = 1
"""Exit status: the arbiter has refused, or the request was replaced by a newer one."""

SLACK: Final = 10.0
"""Seconds beyond the boot timeout until `--wait` is given up."""

_WAIT = click.option("--wait", is_flag=True, help="Wait until it has come about.")
_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --wait: give up after so long (exit 75). Default: the boot timeout and 10 s.",
)


class Verbs(click.Group):
    """Commands that are not known here are verbs of plugins."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = super().get_command(ctx, cmd_name)
        return known or _plugins_command(cmd_name)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="resquedctl %(version)s")
@click.option("--pid", "pid_file", metavar="FILE", help="The arbiter's pid file.")
@click.option("--control", metavar="PATH", help="The arbiter's socket.")
@click.option("--name", metavar="NAME", help="The arbiter whose workers have this --name.")
@click.pass_context
def ctl(
    context: click.Context, pid_file: str | None, control: str | None, name: str | None
) -> None:
    """Steer a running resqued: the only one of this user, or the one that is named.

    Exit status: 0 done, 1 refused, 64 wrong command line, 69 no such arbiter, 75 took too long.
    Other words are verbs of plugins, with arguments KEY=VALUE.
    """
    context.obj = {"pid_file": pid_file, "control": control, "name": name}


ctl.add_command(queue_group)
ctl.add_command(fleet_command)


@ctl.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--ready", is_flag=True, help="Exit 69 if no worker is ready.")
@click.pass_context
def show_status(context: click.Context, as_json: bool, ready: bool) -> None:
    """Show the arbiter and its workers, also if its loop stands still."""
    chosen = _chosen(context)
    try:
        if not chosen.pid:
            raise NoArbiter(f"{chosen.control}: no arbiter of this user says that it listens there")
        code = status.show(chosen.pid, as_json=as_json, ready=ready)
    except NoArbiter as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    context.exit(code)


@ctl.command()
@_WAIT
@_TIMEOUT
@click.pass_context
def reload(context: click.Context, wait: bool, timeout: float | None) -> None:
    """As HUP: read everything again, and put a new generation in service."""
    _ask(context, ControlRequest("reload", wait=wait), timeout)


@ctl.command()
@_WAIT
@_TIMEOUT
@click.pass_context
def reexec(context: click.Context, wait: bool, timeout: float | None) -> None:
    """As USR2: replace the arbiter's own code, then reload."""
    _ask(context, ControlRequest("reexec", wait=wait), timeout)


@ctl.command(context_settings={"ignore_unknown_options": True})
@click.argument("count", metavar="N|+N|-N")
@_WAIT
@_TIMEOUT
@click.pass_context
def scale(context: click.Context, count: str, wait: bool, timeout: float | None) -> None:
    """So many workers, or so many more or fewer, until a reload changes the configured count."""
    try:
        key = "by" if count[:1] in "+-" else "count"
        arguments = {key: int(count)}
    except ValueError:
        raise click.BadParameter(f"{count!r} is not a number", param_hint="N") from None
    _ask(context, ControlRequest("scale", arguments, wait), timeout)


def _plain(name: str, verb: str, text: str) -> None:
    """A command without arguments."""

    @ctl.command(name, help=text)
    @_WAIT
    @_TIMEOUT
    @click.pass_context
    def command(context: click.Context, wait: bool, timeout: float | None) -> None:
        _ask(context, ControlRequest(verb, wait=wait), timeout)


_plain("drain", "drain", "As QUIT: workers finish their jobs, then the arbiter exits.")
_plain("stop", "stop", "As INT: jobs are put back, then the arbiter exits.")
_plain("rest", "rest", "As WINCH: workers finish their jobs and leave, the arbiter stays.")
_plain("resume", "resume", "End a rest, with the count that was in force before.")
_plain("replan", "replan", "Ask for the queues of all workers again.")
_plain("reopen-logs", "reopen_logs", "As USR1: reopen the log files.")


@ctl.command()
@click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[NUMBER]...")
@click.option("--all", "everyone", is_flag=True, help="All workers, one after another.")
@_WAIT
@_TIMEOUT
@click.pass_context
def recycle(
    context: click.Context,
    numbers: tuple[int, ...],
    everyone: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Replace workers between two jobs."""
    if bool(numbers) == everyone:
        raise click.UsageError("name the numbers of workers, or --all")
    if everyone:
        wanted = _chosen(context).summary().get("wished", 0)
        numbers = tuple(range(1, wanted + 1))
        wait = True
    for number in numbers:
        _ask(context, ControlRequest("recycle", {"number": number}, wait), timeout, stays=True)


def _plugins_command(verb: str) -> click.Command:
    @click.command(verb)
    @click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
    @click.pass_context
    def command(context: click.Context, words: tuple[str, ...]) -> None:
        """A verb of a plugin."""
        _ask(context, ControlRequest(verb, _arguments(words)), None)

    return command


def _arguments(words: Iterable[str]) -> dict[str, Any]:
    """Values are JSON, or else text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{word!r} is not KEY=VALUE")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _chosen(context: click.Context) -> ChosenArbiter:
    try:
        return choose(**context.find_root().obj)
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)


def _ask(
    context: click.Context,
    request: ControlRequest,
    timeout: float | None,
    *,
    stays: bool = False,
) -> None:
    """Send the request, print the answer, and exit; stays: only if it is refused."""
    chosen = _chosen(context)
    if not chosen.control:
        click.echo(
            f"the arbiter, pid {chosen.pid}, has no control socket that this user and this version"
            " can see (its log says why); signals reach it",
            err=True,
        )
        context.exit(ExitCode.NOT_RUNNING)
    before = chosen.summary()
    began = time.monotonic()
    code: int = ExitCode.OK
    try:
        code = _follow(chosen, request, timeout)
    except NotReached as error:
        if not (request.wait and request.verb in ("reexec", "drain", "stop")):
            click.echo(f"not reached: {error}", err=True)
            context.exit(ExitCode.NOT_RUNNING)
        if request.verb == "reexec":
            code = _follow_reexec(chosen, before, timeout, began)
    except TookTooLong:
        click.echo(_late(chosen, request), err=True)
        code = ExitCode.TRY_LATER
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if code or not stays:
        context.exit(code)


def _follow(chosen: ChosenArbiter, request: ControlRequest, timeout: float | None) -> int:
    """The exit status by the last packet of the answer. Raises NotReached, TookTooLong."""
    limit = timeout
    if limit is None and request.wait and request.verb not in ("drain", "stop", "rest"):
        limit = chosen.summary().get("boot_timeout", 60.0) + SLACK
    with Connection(chosen.control, chosen.owner) as connection:
        for answer in connection.ask(request, limit):
            if answer.kind in (packets.REFUSED, packets.WRONG):
                click.echo(f"{request.verb}: {answer.facts.get('reason', 'refused')}", err=True)
                return REFUSED
            if answer.last:
                click.echo(_describe(request, answer.kind, answer.facts))
    return ExitCode.OK


def _follow_reexec(
    chosen: ChosenArbiter, before: dict[str, Any], timeout: float | None, began: float
) -> int:
    """The connection ended with the image: wait for the reload of the new one."""
    limit = before.get("boot_timeout", 60.0) + SLACK if timeout is None else timeout
    while time.monotonic() - began < limit:
        now = chosen.summary()
        words = str(now.get("last_reload", ""))
        if words != before.get("last_reload") and not words.endswith("booting"):
            if words.endswith("done"):
                click.echo(f"reexec: done; generation {now.get('generation')} is in service")
                return ExitCode.OK
            click.echo(f"reexec: done, but its reload was not: {words}", err=True)
            return REFUSED
        time.sleep(0.1)
    raise TookTooLong


def _describe(request: ControlRequest, kind: str, facts: dict[str, Any]) -> str:
    """The last line of an answer."""
    if "plan" not in facts:  # a plugin's
        return json.dumps(facts, indent=2)
    verb = request.verb
    if verb in ("scale", "resume", "replan"):
        plan = "; ".join(f"{who}: {','.join(queues)}" for who, queues in facts["plan"].items())
        return f"{verb}: {kind}; workers={facts['workers']} ({plan or 'no plan'})"
    if verb == "reload" and kind == packets.DONE:
        return f"reload: done; generation {facts['generation']} is in service"
    number = f" {request.arguments['number']}" if verb == "recycle" else ""
    return f"{verb}{number}: {kind}"


def _late(chosen: ChosenArbiter, request: ControlRequest) -> str:
    now = chosen.summary()
    reload = now.get("last_reload", "")
    ready, wanted = now.get("ready"), now.get("wished")
    return (
        f"{request.verb}: not done in time; the arbiter goes on with it"
        f" (state {now.get('state')}, last reload: {reload}, {ready} of {wanted} workers ready)"
    )


def main() -> None:
    """The console script."""
    try:
        sys.exit(ctl(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
