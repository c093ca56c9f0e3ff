"""One setting as `config` and plugins declare it: its flag, kind of value, heading and help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from resqued.kinds import Kind

PLUGINS: Final = "Of plugins"
"""The heading in `--help` for settings of plugins."""


@dataclass(frozen=True)
class Setting:
    """One setting. Its name is the field of `Config` and the name in the config file."""

    name: str
    kind: Kind
    flags: tuple[str, ...]  # the longest is used in messages
    help: str
    group: str  # the heading in `--help`
    default: Any = None
    off: str = ""  # the flag that turns a switch off
    aliases: tuple[str, ...] = ()  # what rq calls the flag: understood, not in `--help`
    fallback: str = ""  # RQ's variable, weaker than the config file
    fixed: bool = False  # keeps its value until a restart
    added: bool = False  # file, variable and flags add up instead of replacing each other
    in_file: bool = True
    secret: bool = False  # its value is never repeated: in messages, logs, --help
    plugin: str = ""  # the plugin that has declared it; empty for resqued's own
    absent: str = ""  # why that plugin is not loaded, so that the setting cannot be used

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"RESQUED_{self.name.upper()}"

    @property
    def shown(self) -> tuple[str, ...]:
        """The flags that change the default: those in `--help`."""
        return (self.off,) if self.kind.switch and self.default else self.flags

    @property
    def flag(self) -> str:
        """The flag as messages name it."""
        return max(self.shown, key=len)


def under(group: str) -> Callable[..., Any]:
    """For the settings under this heading: `name: type = make(default, kind, flags)(help)`."""

    def make(default: Any, kind: Kind, flags: str, **more: Any) -> Callable[[str], Any]:
        words = tuple(flags.split())
        if kind.switch:
            more.setdefault("off", f"--no-{words[-1].removeprefix('--')}")
        metadata = {"kind": kind, "flags": words, "group": group, **more}
        return lambda help: field(default=default, metadata={**metadata, "help": help})

    return make
