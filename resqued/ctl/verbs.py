"""The commands of `resquedctl` that change something: verbs of the arbiter and of plugins."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import click

from resqued.control.packets import ControlRequest
from resqued.ctl.ask import Wanted, ask
from resqued.ctl.choice import REFUSED, chosen, chosen_pid

_WAIT: Final = click.option("--wait", is_flag=True, help="Wait until it has come about.")

_WAIT_OF_RELOAD: Final = click.option(
    "--wait",
    type=click.Choice(["ready", "drained"]),
    is_flag=False,
    flag_value="ready",
    help="Wait until the new generation is in service; =drained: until the old one has left, too,"
    " without a timeout.",
)

_TIMEOUT: Final = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --wait: give up after so long, with exit status 75.",
)


@click.command()
@_WAIT_OF_RELOAD
@_TIMEOUT
@click.pass_context
def reload_command(context: click.Context, wait: str | None, timeout: float | None) -> None:
    """As HUP: read settings, plugins and code again, and put a new generation in service.

    With --wait it is the gate of a deployment: 0 when the new generation is in service, 1 with the
    reason and the traceback when it was refused (the old one stays in service) or a newer reload
    has replaced it, 75 after --timeout (by default the boot timeout and 10 s).
    """
    _reload(context, "reload", wait, timeout)


@click.command()
@_WAIT_OF_RELOAD
@_TIMEOUT
@click.pass_context
def reexec_command(context: click.Context, wait: str | None, timeout: float | None) -> None:
    """As USR2: replace the arbiter's own code, with the same pid and workers, then reload."""
    _reload(context, "reexec", wait, timeout)


def _reload(context: click.Context, verb: str, wait: str | None, timeout: float | None) -> None:
    request = ControlRequest(verb, wait=wait is not None)
    ask(context, Wanted(request, timeout, drained=wait == "drained"))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("count", metavar="N|+N|-N")
@_WAIT
@_TIMEOUT
@click.pass_context
def scale_command(context: click.Context, count: str, wait: bool, timeout: float | None) -> None:
    """So many workers, or so many more or fewer than now.

    It is answered with the new plan, or with why there can be none. It stays until a reload
    changes the configured count.
    """
    key = "by" if count[:1] in "+-" else "count"
    try:
        arguments = {key: int(count)}
    except ValueError:
        raise click.BadParameter(f"{count!r} is not a number", param_hint="N") from None
    ask(context, Wanted(ControlRequest("scale", arguments, wait), timeout))


def _plain(verb: str, text: str) -> click.Command:
    """A command without arguments."""

    @click.command(verb.replace("_", "-"), help=text)
    @_WAIT
    @_TIMEOUT
    @click.pass_context
    def command(context: click.Context, wait: bool, timeout: float | None) -> None:
        ask(context, Wanted(ControlRequest(verb, wait=wait), timeout))

    return command


_PROGRESS: Final = " With --wait a terminal shows the jobs left, by queue."

drain_command = _plain(
    "drain",
    "As QUIT: workers finish their jobs, at most --grace long, then the arbiter exits." + _PROGRESS,
)
stop_command = _plain(
    "stop", "As INT: jobs in hand are put back, then the arbiter exits." + _PROGRESS
)
rest_command = _plain(
    "rest", "As WINCH: workers finish their jobs and leave, the arbiter stays." + _PROGRESS
)
resume_command = _plain("resume", "End a rest, with the count that was in force before.")
replan_command = _plain(
    "replan",
    "Ask for the queues of all workers again (choose_queues). Only workers whose queues change"
    " are replaced.",
)
reopen_logs_command = _plain("reopen_logs", "As USR1: every process reopens its log files.")


@click.command()
@click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[NUMBER]...")
@click.option("--all", "everyone", is_flag=True, help="All workers, one after another.")
@_WAIT
@_TIMEOUT
@click.pass_context
def recycle_command(
    context: click.Context,
    numbers: tuple[int, ...],
    everyone: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Replace workers between two jobs: each finishes the one in hand.

    With --all the next one is asked when the successor of the last one is ready, so that one
    worker at most is missing. --timeout is for each of them. One that is not there is passed over,
    and the exit status is 1.
    """
    if bool(numbers) == everyone:
        raise click.UsageError("name the numbers of workers, or --all")
    if everyone:
        chosen_pid(context)  # else their number is not known
        wanted = chosen(context).summary().get("wished", 0)
        numbers = tuple(range(1, wanted + 1))
        wait = True
    if not numbers:
        click.echo("recycle: there is no worker to be replaced", err=True)
        context.exit(REFUSED)
    code = 0
    for number in dict.fromkeys(numbers):
        request = ControlRequest("recycle", {"number": number}, wait)
        code = ask(context, Wanted(request, timeout), stays=True) or code
    context.exit(code)


def plugins_command(verb: str) -> click.Command:
    """The command for a word that may be a plugin's verb."""

    @click.command(verb)
    @click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
    @click.pass_context
    def command(context: click.Context, words: tuple[str, ...]) -> None:
        """A verb of a plugin."""
        ask(context, Wanted(ControlRequest(verb, _arguments(words))))

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
        except (ValueError, RecursionError):
            found[key] = text
    return found
