"""The command line: which flags there are, and what `--help` prints. Made from the settings.

click splits the arguments; what they say is read and checked in `sources`, together with the
variables and the config file, so that everything wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click

from resqued.settings.setting import SHOW, Setting
from resqued.settings.table import SETTINGS


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for beside settings."""

    check: bool = False
    list_hooks: str | None = None  # empty: all of them
    list_plugins: bool = False
    status: bool = False
    ready: bool = False
    json: bool = False
    version: bool = False
    help: bool = False


@dataclass(frozen=True)
class Flags:
    """A command line, split but not read: texts of settings by name; True or False of switches."""

    given: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)


_WISHES: Final = (
    ("check", "Load everything, print which worker serves which queues, or all that is wrong."),
    ("list_hooks", "The hooks and who uses them, or one of them in full."),
    ("list_plugins", "The plugins: where from, their hooks, which are blocked or broken."),
    ("status", "What each worker of the running resqued (--pid FILE, or the only one) is doing."),
    ("ready", "With --status: exit 0 only if at least one worker is ready."),
    ("json", "With --status and the listings: for machines."),
    ("version", "The version."),
    ("help", "This page."),
)

_EPILOGUE: Final = """\
Each setting can also be given in the config file, as `name = value`, and in the environment
as RESQUED_NAME; flags win over the environment, which wins over the file. Queues added first
are drained before the next is looked at.
"""


class _Command(click.Command):
    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("resqued", "[OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, _Option):
                groups.setdefault(param.group, []).append(param.row)
        show = groups.pop(SHOW)
        for group, rows in (*groups.items(), (SHOW, show)):
            with formatter.section(group):
                formatter.write_dl(rows, col_max=26)


class _Option(click.Option):
    """An option that knows its group and its row in the help."""

    def __init__(self, decls: list[str], *, group: str, row: tuple[str, str], **rest: Any) -> None:
        super().__init__(decls, default=None, **rest)
        self.group = group
        self.row = row


def _option(setting: Setting) -> _Option:
    names = [*setting.flags, *setting.aliases]
    if setting.kind.switch:
        names[-1] += f"/{setting.off[-1]}"
        return _Option([setting.name, *names], group=setting.group, row=_row(setting))
    return _Option(
        [setting.name, *names],
        group=setting.group,
        row=_row(setting),
        multiple=setting.kind.many,
        type=click.UNPROCESSED,
    )


def _row(setting: Setting) -> tuple[str, str]:
    text = setting.help
    if setting.kind.switch:
        shown = setting.off if setting.default else setting.flags
    else:
        shown = setting.flags
        default = setting.default
        if default not in (None, ()) and setting.name != "queues" and not isinstance(default, list):
            shown_default = f"{default:g}" if isinstance(default, float) else default
            if isinstance(default, tuple):
                shown_default = ",".join(default)
            text = f"{text} [{shown_default}]"
    indent = "" if any(not flag.startswith("--") for flag in shown) else "    "
    return f"{indent}{', '.join(shown)} {setting.kind.metavar}".rstrip(), text


def _wish(name: str, text: str) -> _Option:
    flag = f"--{name.replace('_', '-')}"
    if name == "list_hooks":
        return _Option(
            [name, flag],
            group=SHOW,
            row=(f"    {flag}[=HOOK]", text),
            is_flag=False,
            flag_value="",
            type=click.UNPROCESSED,
        )
    row = (f"-h, {flag}" if name == "help" else f"    {flag}", text)
    names = ["-h", flag] if name == "help" else [flag]
    return _Option([name, *names], group=SHOW, row=row, is_flag=True)


def _command(settings: Iterable[Setting]) -> _Command:
    options = [_option(setting) for setting in settings]
    options += [_wish(name, text) for name, text in _WISHES]
    return _Command(
        "resqued",
        params=list[click.Parameter](options),
        help="Run workers for RQ: load the application once, fork workers from it, lose no job.",
        epilog=_EPILOGUE,
        add_help_option=False,
    )


def help_page(settings: Iterable[Setting]) -> str:
    """What `--help` prints."""
    context = click.Context(_command(settings), info_name="resqued", max_content_width=100)
    return context.get_help()


def split(argv: Sequence[str], settings: Iterable[Setting] = SETTINGS) -> Flags:
    """Split the arguments. Raises click.UsageError for a flag or argument there is none of."""
    return _split(list(argv), settings, {})


def glance(argv: Sequence[str]) -> Flags:
    """The same before plugins have added theirs: what is not known is passed over."""
    return _split(list(argv), SETTINGS, {"ignore_unknown_options": True, "resilient_parsing": True})


def look(argv: Sequence[str]) -> tuple[Wishes, bool]:
    """What a command line asks for, and whether it wants tracebacks; for before it is read."""
    flags = glance(argv)
    return flags.wishes, bool(flags.given.get("verbose"))


def _split(argv: list[str], settings: Iterable[Setting], extra: dict[str, Any]) -> Flags:
    context = _command(settings).make_context("resqued", argv, allow_extra_args=True, **extra)
    if context.args and not extra:
        flags = " ".join(f"--queue {name}" for name in context.args)
        raise click.UsageError(f"unexpected {' '.join(context.args)}; queues are named so: {flags}")
    wishes = {name: context.params.pop(name) for name, _ in _WISHES}
    given = {name: value for name, value in context.params.items() if value not in (None, ())}
    asked = {name: value for name, value in wishes.items() if value is not None}
    return Flags(given, Wishes(**asked))
