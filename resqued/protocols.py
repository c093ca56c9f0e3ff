"""What hooks may use of the running program, as types: the arbiter, a draft, the options.

Structural types only. The arbiter and the command line implement them, a plugin annotates with
them, and a plugin's own tests may put a stand-in in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from resqued.config import Config
    from resqued.snapshots import Worker


class Arbiter(Protocol):
    """The arbiter, as the hooks that run in it see it."""

    @property
    def config(self) -> Config:
        """The settings in force; another object after a reload."""

    @property
    def pid(self) -> int:
        """Never changes, not on reload and not on re-exec."""

    @property
    def generation(self) -> int:
        """The number of the generation in service."""

    @property
    def state(self) -> str:
        """running, resting, draining, stopping or over."""

    @property
    def wished(self) -> int:
        """The target number of workers."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Snapshots of the workers that are alive, by number."""

    def reopen_logs(self) -> None:
        """Have every process reopen its log files, and call `reopen_logs` there."""


class Draft(Protocol):
    """The settings while `configure` runs: as `Config`, but they may be assigned.

    A value is read as in the config file; ConfigError for one that is not valid.
    """

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class Options(Protocol):
    """What `add_options` gets: declares a plugin's own options."""

    def add(
        self,
        flag: str,
        *,
        default: Any = None,
        help: str = "",
        type: Callable[[str], Any] | str | None = None,
        group: str = "Of plugins",
    ) -> None:
        """Declare `--NAME-WORD`: the flag, the setting NAME_WORD and RESQUED_NAME_WORD at once.

        NAME is the plugin's. default: also decides the type, unless `type` says how to read text:
        a function, or `count` (1 or more), `seconds` (`90`, `15m`), `size` (`512M`). group: the
        heading in `--help`. Raises ValueError for another plugin's prefix, or a name that is taken.
        """
