"""The plugins of one process: found, imported, checked, registered, or put aside with the reason.

Built once per run and once more per reload; nothing is kept on the module. A plugin that was
asked for must load; one that is only installed is a warning if it does not.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final

from resqued.exits import ExitCode
from resqued.ownership import Untrusted
from resqued.plugins import candidates
from resqued.plugins.candidates import Asked, Candidate, Candidates
from resqued.plugins.errors import describe
from resqued.plugins.hooks import HookFailed, Hooks
from resqued.plugins.validation import examine, mark_functions, new_manager

LOADED: Final = "loaded"
BLOCKED: Final = "blocked"
BROKEN: Final = "broken"
IDLE: Final = "idle"
"""Installed and well, but only active when named: AUTOLOAD = False, or --no-autoload."""


class PluginError(Exception):
    """Plugins that were asked for cannot be had; each error is a message.

    plugins: what could be loaded nevertheless, for the listings.
    """

    def __init__(self, plugins: Plugins, exit_code: ExitCode) -> None:
        super().__init__("\n".join(plugins.errors))
        self.errors = plugins.errors
        self.plugins = plugins
        self.exit_code = exit_code


class Plugins:
    """pluggy's manager with what was loaded, and the reasons for the rest."""

    def __init__(self) -> None:
        self.manager = new_manager()
        self.installed: tuple[Candidate, ...] = ()
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.untrusted = False  # a file that others could have written was not run
        self._registered: list[tuple[Candidate, object]] = []
        self._rest: list[Candidate] = []

    @property
    def found(self) -> list[Candidate]:
        """All: the loaded ones in the order in which they are called, then the others."""
        return [*self.loaded(), *self._rest]

    def loaded(self) -> list[Candidate]:
        """In the order in which they are called."""
        return [candidate for candidate, _ in reversed(self._registered)]

    def hooks(
        self,
        limit: float | None = None,
        on_failure: Callable[[HookFailed], None] | None = None,
    ) -> Hooks:
        """The hooks, ready to be called; the arguments are those of `Hooks`."""
        return Hooks(self.manager, limit=limit, on_failure=on_failure)

    def new_since(self, old: Plugins) -> list[str]:
        """Names of plugins that are not the same objects as in `old`.

        After a reload: the config file, which was read anew, and what was added.
        """
        plugins = self.manager.list_name_plugin()
        return [name for name, each in plugins if old.manager.get_plugin(name) is not each]

    def dropped_by(self, new: Plugins) -> list[str]:
        """Names of plugins that `new` does not have any more, or has as another object."""
        return self.new_since(new)

    def banner(self) -> str:
        """One line for the log: `plugins: statsd 0.3.0, shares; blocked: recycle`."""
        names = [
            f"{each.name} {each.version}" if each.version and not each.built_in else each.name
            for each in self.loaded()
        ]
        parts = [f"plugins: {', '.join(names) or 'none'}"]
        for status, text in ((BLOCKED, "blocked"), (BROKEN, "not loaded")):
            names = [each.name for each in self._rest if each.status == status]
            if names:
                parts.append(f"{text}: {', '.join(names)}")
        return "; ".join(parts)

    def load(self, found: Candidates) -> None:
        """Import, check and register what is wanted."""
        self.installed = tuple(found.installed)
        self.warnings += found.warnings
        known = [*found.wanted, *found.blocked, *found.unnamed]
        for candidate in found.wanted:
            same = [other for other in found.wanted if other.name == candidate.name]
            if len(same) == 1:
                self._load(candidate, known)
                continue
            clash = f"two plugins are called '{candidate.name}'"
            if candidate is same[0]:
                lines = "".join(f"\n    {other.source}" for other in same)
                remedy = "Drop one: -p no:<distribution>, or uninstall it."
                self.errors.append(f"{clash}:{lines}\n  {remedy}")
            self._put_aside(candidate, BROKEN, clash)
        for candidate in found.unnamed:
            self._put_aside(candidate, IDLE, f"not named; -p {candidate.name} loads it")
        for candidate in found.blocked:
            self._put_aside(candidate, BLOCKED, f"blocked by {candidate.blocked}")

    def load_config_file(self, module: ModuleType) -> None:
        """Register the config file, in which a hook needs no marker."""
        file = str(module.__file__)
        candidate = Candidate(Path(file).name, file=file)
        misspelt = mark_functions(module, candidate.name)
        self._register(candidate, module, misspelt)

    def _load(self, candidate: Candidate, known: list[Candidate]) -> None:
        try:
            plugin = candidate.load()
        except Untrusted as error:
            self.untrusted = True
            self.errors.append(f"plugin {candidate}: {error}")
            self._put_aside(candidate, BROKEN, str(error))
            return
        except (Exception, SystemExit) as error:
            candidate.traceback = "".join(traceback.format_exception(error)).rstrip()
            self._failed(candidate, error, known)
            return
        if getattr(plugin, "AUTOLOAD", True) is False and not candidate.asked:
            self._put_aside(candidate, IDLE, f"only when asked for: -p {candidate.name}")
            return
        for other, registered in self._registered:
            if registered == plugin:  # as pluggy compares them
                self.errors.append(
                    f"plugin {candidate} is the same object as plugin\n"
                    f"  '{other.name}' ({other.source}). Name it once."
                )
                self._put_aside(candidate, BROKEN, f"the same object as '{other.name}'")
                return
        version = getattr(plugin, "__version__", None)
        if not candidate.version and isinstance(version, str):
            candidate.version = version
        module = sys.modules.get(type(plugin).__module__)  # of an object's class
        written = plugin if isinstance(plugin, ModuleType) else module
        candidate.file = getattr(written, "__file__", None)
        self._register(candidate, plugin)

    def _register(self, candidate: Candidate, plugin: object, errors: Sequence[str] = ()) -> None:
        findings = examine(self.manager, plugin, candidate)
        self.warnings += findings.warnings
        errors = [*errors, *findings.errors]
        if not errors:
            self.manager.register(plugin, candidate.name)
            candidate.status, candidate.hooks = LOADED, tuple(findings.hooks)
            self._registered.append((candidate, plugin))
            return
        self._put_aside(candidate, BROKEN, "\n".join(errors))
        if _must_load(candidate):
            self.errors += errors
            return
        self.warnings += [
            f"{error}\n  It is not loaded, resqued goes on without it;"
            f" -p no:{candidate.name} silences this."
            for error in errors
        ]

    def _failed(self, candidate: Candidate, error: BaseException, known: list[Candidate]) -> None:
        if candidate.is_missing(error):
            self.errors.append(candidates.missing(candidate, known))
            self._put_aside(candidate, BROKEN, "there is no such plugin")
            return
        what = describe(error)
        self._put_aside(candidate, BROKEN, what)
        where, line = candidates.import_place(error)
        if _must_load(candidate):
            at = f"\n  at {where}: {line}".rstrip(": ") if where else ""
            self.errors.append(
                f"plugin {candidate} failed to import.\n  {what}{at}\n"
                f"  Start without it: -p no:{candidate.name}. Full traceback: -v."
            )
            return
        at = f" ({where})" if where else ""
        self.warnings.append(
            f"plugin {candidate} not loaded: {what}{at}. resqued goes on without it;"
            f" -p no:{candidate.name} silences this."
        )

    def _put_aside(self, candidate: Candidate, status: str, error: str) -> None:
        candidate.status, candidate.error = status, error
        self._rest.append(candidate)


def _must_load(candidate: Candidate) -> bool:
    """Whether the start fails without it: for one that is only installed it is a warning."""
    return candidate.asked is not None or candidate.built_in or candidate.entry_point is None


def load_plugins(
    names: Iterable[str | Asked],
    *,
    autoload: bool = True,
    config_module: ModuleType | None = None,
    known: Sequence[Candidate] = (),
) -> Plugins:
    """Load the built-ins, what is installed, what `names` ask for, then the config file.

    In this order they are registered, so the nearest to the user is called first. names: NAME
    or no:NAME, each perhaps with where it was written; the last word on a plugin wins. known: as
    for `candidates.find`.
    Runs in the arbiter, in each fork server, and under --check and the listings.
    Raises PluginError for all that was asked for and cannot be had.
    """
    asked = [Asked(name) if isinstance(name, str) else name for name in names]
    plugins = Plugins()
    try:
        found = candidates.find(asked, autoload=autoload, known=known)
    except metadata.PackageNotFoundError:
        plugins.errors.append("resqued is not installed here; run: pip install -e .")
    else:
        plugins.load(found)
    if config_module is not None:
        plugins.load_config_file(config_module)
    if plugins.errors:
        code = ExitCode.NO_PERMISSION if plugins.untrusted else ExitCode.CONFIG
        raise PluginError(plugins, code)
    return plugins
