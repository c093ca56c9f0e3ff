"""The command line: its flags, made from the settings, and what `--help` prints.

click parses it twice: leniently before the plugins are known, whose flags are then passed over,
and strictly with all flags. A value that cannot be is kept as a ValueError, and reported later
with everything else that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from resqued.config import SETTINGS
from resqued.kinds import Kind
from resqued.setting import Setting

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # no generic class before click 8.4


@dataclass(frozen=True)
class CommandFlags:
    """What the command line asks for beside settings."""

    check: bool = False
    print_config: bool = False
    list_hooks: str | None = None  # empty: all of them
    list_plugins: bool = False
    new_plugin: str | None = None  # its name
    status: bool = False
    ready: bool = False
    json: bool = False
    completion: str | None = None  # a shell
    version: bool = False
    help: bool = False


_COMMANDS: Final = {
    "check": "Load everything, print which worker serves which queues, or all that is wrong.",
    "print_config": "Every setting, its value, and where it came from.",
    "list_hooks": "The hooks and who uses them, or one of them in full.",
    "list_plugins": "The plugins: where from, their hooks, which are blocked or broken.",
    "new_plugin": "Write a package for a plugin of this name, with tests, into ./resqued-NAME.",
    "status": "What each worker of the running resqued (--pid FILE, or the only one) is doing.",
    "ready": "With --status: exit 0 only if at least one worker is ready.",
    "json": "With --status, --print-config and the listings: for machines.",
    "completion": "A script for bash, zsh or fish, which then completes what is typed.",
    "version": "The version.",
    "help": "This page.",
}
SHELLS: Final = ("bash", "zsh", "fish")
"""That `--completion` knows."""

_SHOW: Final = "Instead of a start"

COMMAND_FLAGS: Final = tuple(f"--{name.replace('_', '-')}" for name in _COMMANDS)

_EPILOGUE: Final = """\
Each setting can also be given in the config file, as `name = value`, and in the environment
as RESQUED_NAME; flags win over the environment, which wins over the file. Queues added first
are drained before the next is looked at.
"""


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line: `values` of the settings that it gives, a ValueError for a wrong one.

    A repeatable flag has a tuple of them.
    """

    argv: tuple[str, ...] = ()  # without the program's name
    values: Mapping[str, Any] = field(default_factory=dict)
    commands: CommandFlags = field(default_factory=CommandFlags)


class _KindType(ParamType):
    """A kind of value, for click."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._kind.read(value)
        except ValueError as error:
            return error

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if self._kind.path:
            return [CompletionItem(incomplete, type="dir" if self.name == "DIR" else "file")]
        words = [word for word in self._kind.words if word.startswith(incomplete)]
        return [CompletionItem(word) for word in words]


class _Command(click.Command):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, _Option):
                groups.setdefault(param.group, []).append(param.row)
        groups[_SHOW] = groups.pop(_SHOW)  # last, below those of plugins
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows, col_max=26)


class _Option(click.Option):
    """An option that knows its heading and its row in the help."""

    def __init__(self, names: list[str], group: str, row: tuple[str, str], **more: Any) -> None:
        super().__init__(names, default=None, **more)
        self.group = group
        self.row = row


def _setting(setting: Setting) -> _Option:
    names = [setting.name, *setting.flags, *setting.aliases]
    text = setting.help
    if setting.kind.switch:
        names[-1] += f"/{setting.off}"
        return _Option(names, setting.group, _row(setting.shown, "", text))
    default = setting.default
    if setting.plugin and setting.secret:
        default = None
    if default not in (None, ()) and setting.name != "queues" and not isinstance(default, list):
        shown = f"{default:g}" if isinstance(default, float) else default
        text = f"{text} [{','.join(map(str, shown)) if isinstance(shown, tuple) else shown}]"
    row = _row(setting.shown, f" {setting.kind.metavar}", text)
    kind = _KindType(setting.kind)
    return _Option(names, setting.group, row, multiple=setting.kind.many, type=kind)


def _command(name: str, flag: str, text: str) -> _Option:
    flags = ("-h", flag) if name == "help" else (flag,)
    if name == "list_hooks":
        row = _row(flags, "[=HOOK]", text)
        return _Option([name, flag], _SHOW, row, is_flag=False, flag_value="", type=str)
    if name == "completion":
        row = _row(flags, " SHELL", text)
        return _Option([name, flag], _SHOW, row, type=str, shell_complete=_shells)
    if name == "new_plugin":
        return _Option([name, flag], _SHOW, _row(flags, " NAME", text), type=str)
    return _Option([name, *flags], _SHOW, _row(flags, "", text), is_flag=True)


def _shells(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [shell for shell in SHELLS if shell.startswith(incomplete)]


def _row(flags: Sequence[str], metavar: str, text: str) -> tuple[str, str]:
    indent = "    " if all(flag.startswith("--") for flag in flags) else ""
    return f"{indent}{', '.join(flags)}{metavar}", text


def program(settings: Iterable[Setting]) -> click.Command:
    """The command, with a flag for each of these settings."""
    options = [_setting(setting) for setting in settings]
    for flag, (name, text) in zip(COMMAND_FLAGS, _COMMANDS.items(), strict=True):
        options.append(_command(name, flag, text))
    return _Command(
        "resqued",
        params=list[click.Parameter](options),
        help="Run workers for RQ: load the application once, fork workers from it, lose no job.",
        epilog=_EPILOGUE,
        add_help_option=False,
    )


def help_page(settings: Iterable[Setting]) -> str:
    """What `--help` prints."""
    context = click.Context(program(settings), info_name="resqued", max_content_width=100)
    return context.get_help()


def parse(argv: Sequence[str], settings: Iterable[Setting] = SETTINGS.values()) -> CommandLine:
    """Parse the words after the program's name.

    Raises click.UsageError for a flag or an argument that does not exist.
    """
    context = program(settings).make_context("resqued", list(argv), allow_extra_args=True)
    if context.args:
        flags = " ".join(f"--queue {name}" for name in context.args)
        raise click.UsageError(f"unexpected {' '.join(context.args)}; queues are named so: {flags}")
    return _taken_from(context, argv)


def parse_early(argv: Sequence[str]) -> CommandLine:
    """The same before plugins have declared their flags: what is not known is passed over."""
    context = program(SETTINGS.values()).make_context(
        "resqued",
        list(argv),
        allow_extra_args=True,
        ignore_unknown_options=True,
        resilient_parsing=True,
    )
    return _taken_from(context, argv)


def _taken_from(context: click.Context, argv: Sequence[str]) -> CommandLine:
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    commands = CommandFlags(**{name: given.pop(name) for name in _COMMANDS if name in given})
    return CommandLine(tuple(argv), given, commands)
