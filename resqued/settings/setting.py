"""One setting, and the groups in which `--help` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from resqued.settings.values import Kind

WORKERS: Final = "Workers"
APPLICATION: Final = "Application and plugins"
PROCESS: Final = "Process and logs"
LIMITS: Final = "Stopping, limits and recycling"
RQ: Final = "As rq worker has them"
PLUGINS: Final = "Of plugins"
SHOW: Final = "To look, and start nothing"


@dataclass(frozen=True)
class Setting:
    """One setting. Its name is the field of `Config` and the name in the config file."""

    name: str
    kind: Kind
    flags: tuple[str, ...]  # the long one is used in messages
    help: str
    group: str
    default: Any = None
    off: tuple[str, ...] = ()  # the flags that turn a switch off
    aliases: tuple[str, ...] = ()  # what rq calls the flag: understood, not advertised
    fallback: str = ""  # RQ's variable, below the config file
    fixed: bool = False  # keeps its value until a restart
    added: bool = False  # file, variable and flags add up instead of replacing each other
    in_file: bool = True
    secret: bool = False  # its value is never repeated in a message
    plugin: str = ""  # the plugin that has declared it; empty for resqued's own
    absent: str = ""  # why that plugin is not loaded, so that the setting cannot be used

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"RESQUED_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The flag as messages name it: the one that changes the default."""
        shown = self.off if self.kind.switch and self.default else self.flags
        return max(shown, key=len)


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that was probably meant."""
    found = get_close_matches(word, known, n=1, cutoff=0.7)
    return found[0] if found else None
