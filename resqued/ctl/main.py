"""The command `resquedctl`: its options, its commands by section, and how they are found.

A command is imported when it is called, since `status` is called often and must come at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from resqued import __version__
from resqued.command.standard_output import written
from resqued.exits import ExitCode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_LOOK: Final = "Look"
_CHANGE: Final = "Change"
_STOP: Final = "Stop"

_WIDTH: Final = 100


@dataclass(frozen=True)
class CtlCommand:
    """A command. module: in `resqued.ctl`. function: in it; empty: the name and `_command`."""

    name: str
    module: str
    section: str
    arguments: str  # as `--help` shows them
    text: str
    function: str = ""


COMMANDS: Final = {
    entry.name: entry
    for entry in (
        CtlCommand("status", "look", _LOOK, "", "What runs, what waits, what is wrong."),
        CtlCommand("top", "look", _LOOK, "", "The same on the whole screen, each second."),
        CtlCommand(
            *("fleet", "fleet", _LOOK, "", "All arbiters on this Redis, of all hosts."),
            function="fleet_command",
        ),
        CtlCommand(
            "why", "why", _LOOK, "JOB|QUEUE|worker N", "Why it is as it is, in plain words."
        ),
        CtlCommand("events", "look", _LOOK, "", "The last 200 events of the arbiter."),
        CtlCommand("stacks", "look", _LOOK, "[NUMBER]...", "Where the workers' code is now."),
        CtlCommand("config", "look", _LOOK, "", "Each setting in force, and where it came from."),
        CtlCommand(
            *("queue", "queues", _CHANGE, "pause|resume", "Pause a queue on all hosts, or resume."),
            function="queue_group",
        ),
        CtlCommand(
            *("cron", "cron", _CHANGE, "[run|pause|resume]", "Periodic jobs, of all hosts."),
            function="cron_group",
        ),
        CtlCommand("reload", "verbs", _CHANGE, "", "As HUP: a new generation with the new code."),
        CtlCommand(
            "reexec", "verbs", _CHANGE, "", "As USR2: the arbiter's own code, and a reload."
        ),
        CtlCommand("scale", "verbs", _CHANGE, "N|+N|-N", "So many workers, or more or fewer."),
        CtlCommand("recycle", "verbs", _CHANGE, "NUMBER...", "Replace workers between two jobs."),
        CtlCommand("replan", "verbs", _CHANGE, "", "Ask for the queues of all workers again."),
        CtlCommand("reopen-logs", "verbs", _CHANGE, "", "As USR1: reopen the log files."),
        CtlCommand("rest", "verbs", _STOP, "", "As WINCH: workers leave, the arbiter stays."),
        CtlCommand("resume", "verbs", _STOP, "", "End a rest, with the count from before."),
        CtlCommand("drain", "verbs", _STOP, "", "As QUIT: workers finish their jobs, then exit."),
        CtlCommand("stop", "verbs", _STOP, "", "As INT: jobs are put back, then exit."),
    )
}

_EXITS: Final = (
    ("0", "done"),
    ("1", "refused, or replaced by a newer request; the reason is on standard error"),
    ("64", "wrong command line, or several arbiters run and none is named"),
    ("69", "no such arbiter, or it cannot be reached"),
    ("73", "standard output cannot be written"),
    ("75", "not done within --timeout, or not answered; the arbiter goes on with it"),
    ("77", "the arbiter belongs to another user"),
)

_EPILOGUE: Final = """\
Any other word is a verb of a plugin, with arguments KEY=VALUE. `resquedctl COMMAND --help` tells
more of a command. In a deployment: `resquedctl reload --wait`.
"""


class CommandGroup(click.Group):
    """Imports a command when it is called. A word that is not known here is a plugin's verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            known = super().get_command(ctx, cmd_name)
            if known is not None or ctx.resilient_parsing:
                return known
            from resqued.ctl import verbs

            return verbs.plugins_command(cmd_name)
        module = importlib.import_module(f"resqued.ctl.{entry.module}")
        function = entry.function or f"{cmd_name.replace('-', '_')}_command"
        command: click.Command = getattr(module, function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in (_LOOK, _CHANGE, _STOP):
            with formatter.section(section):
                formatter.write_dl(list(self._rows(ctx, section)), col_max=26)
        with formatter.section("Exit status"):
            formatter.write_dl(_EXITS)

    def _rows(self, ctx: click.Context, section: str) -> Iterator[tuple[str, str]]:
        for entry in COMMANDS.values():
            if entry.section == section:
                yield f"{entry.name} {entry.arguments}".rstrip(), entry.text
        if section == _LOOK:
            for name in super().list_commands(ctx):
                command = super().get_command(ctx, name)
                if command is not None:
                    yield name, command.get_short_help_str(_WIDTH)


def _completion(context: click.Context, parameter: click.Parameter, shell: str | None) -> None:
    if shell is not None and not context.resilient_parsing:
        from resqued.command import completion

        click.echo(completion.script(ctl, "resquedctl", shell))
        context.exit()


def _files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@click.group(
    cls=CommandGroup,
    epilog=_EPILOGUE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
)
@click.option(
    *("--pid", "pid_file"),
    metavar="FILE",
    shell_complete=_files,
    help="The arbiter of this pid file.",
)
@click.option(
    "--control",
    metavar="PATH",
    shell_complete=_files,
    help="The arbiter that listens on this socket.",
)
@click.option("--name", metavar="NAME", help="The arbiter whose workers have this --name.")
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    expose_value=False,
    is_eager=True,
    callback=_completion,
    help="Print a script for this shell, which then completes what is typed.",
)
@click.version_option(__version__, message="resquedctl %(version)s")
@click.pass_context
def ctl(
    context: click.Context, pid_file: str | None, control: str | None, name: str | None
) -> None:
    """Steer a running resqued, and look at it: the only one of this user, or the one that is named.

    `status`, `top` and `stacks` answer also when the arbiter's loop stands still.
    """
    context.obj = {"pid_file": pid_file, "control": control, "name": name}
    if sum(value is not None for value in context.obj.values()) > 1:
        raise click.UsageError("--pid, --control and --name each name an arbiter: give one of them")


def main() -> None:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python sets one that the caller has closed
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    sys.exit(written(_run))


def _run() -> int:
    """The exit status."""
    try:
        return ctl(prog_name="resquedctl", standalone_mode=False) or ExitCode.OK
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return 130
