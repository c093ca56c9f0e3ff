"""The plugins of one process: found, imported, checked, registered, or put aside with the reason.

Built once per run and once more per reload; nothing is kept on the module. A plugin that was
asked for must load; one that is only installed is a warning if it does not.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final

from resqued import logs
from resqued.exits import ExitCode
from resqued.logs import LogEvent
from resqued.ownership import Untrusted
from resqued.plugins import candidates, specs
from resqued.plugins.candidates import AskedPlugin, Candidate, Candidates
from resqued.plugins.clashes import settle_names
from resqued.plugins.errors import describe
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import LIMIT, Hooks
from resqued.plugins.imports import NoSuchObject, import_place
from resqued.plugins.limits import HookTimeout
from resqued.plugins.specs import SpecError
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
    """pluggy's manager with what was loaded, and the reasons for the rest. limit: seconds that an
    `add_hookspecs` may take; needs SIGALRM."""

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self.manager = new_manager()
        self.installed: tuple[Candidate, ...] = ()
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.declared: dict[str, tuple[str, ...]] = {}
        """Hooks that plugins have declared with `add_hookspecs`, by the plugin's name."""
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

    @property
    def registered(self) -> Sequence[tuple[Candidate, object]]:
        """The loaded ones with the modules or objects that they are, called last to called
        first."""
        return self._registered

    def hooks(
        self,
        limit: float | None = None,
        on_failure: Callable[[HookFailed], None] | None = None,
        on_call: Callable[[str], None] | None = None,
    ) -> Hooks:
        """The hooks, ready to be called; the arguments are those of `Hooks`."""
        return Hooks(self.manager, limit=limit, on_failure=on_failure, on_call=on_call)

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

    def load(self, found: Candidates | None, config_module: ModuleType | None = None) -> None:
        """Import what is wanted, have it declare hooks of its own, then check and register it.

        The config file comes last; a hook needs no marker there.
        """
        ready = self._import_all(found) if found else []
        if config_module is not None:
            file = str(config_module.__file__)
            ready.append((Candidate(Path(file).name, file=file), config_module))
        declared = [each for each in ready if self._declare(*each)]
        for candidate, plugin in declared:
            misspelt: list[str] = []
            if plugin is config_module and config_module is not None:
                misspelt = mark_functions(self.manager, config_module, candidate.name)
            self._register(candidate, plugin, misspelt)

    def declare_again(self) -> None:
        """Call `add_hookspecs` once more, with the manager that is in force now."""
        for candidate, plugin in self._registered:
            try:
                specs.declare(self.manager, plugin, LIMIT)
            except SpecError as error:
                logs.error(f"plugin '{candidate.name}': {error}", LogEvent.HOOK_FAILED)

    def _import_all(self, found: Candidates) -> list[tuple[Candidate, object]]:
        self.installed = tuple(found.installed)
        settled = settle_names(found.wanted)
        self.warnings += [*found.warnings, *settled.warnings]
        self.errors += settled.errors
        known = [*found.wanted, *found.blocked, *found.unnamed]
        ready: list[tuple[Candidate, object]] = []
        for candidate in settled.kept:
            self._import(candidate, known, ready)
        for candidate, reason in settled.refused:
            self._put_aside(candidate, BROKEN, reason)
        for candidate in found.unnamed:
            self._put_aside(candidate, IDLE, f"not named; -p {candidate.name} loads it")
        for candidate in found.blocked:
            self._put_aside(candidate, BLOCKED, f"blocked by {candidate.blocked}")
        return ready

    def _import(
        self, candidate: Candidate, known: list[Candidate], ready: list[tuple[Candidate, object]]
    ) -> None:
        """Add it to `ready`, or put it aside."""
        try:
            plugin = candidate.load()
            loads_itself = getattr(plugin, "AUTOLOAD", True) is not False
            version = getattr(plugin, "__version__", None)
            twins = [other for other, loaded in ready if loaded == plugin]  # as pluggy compares
        except (Untrusted, NoSuchObject) as error:
            self.untrusted = self.untrusted or isinstance(error, Untrusted)
            self.errors.append(f"plugin {candidate}: {error}")
            self._put_aside(candidate, BROKEN, str(error))
            return
        except (KeyboardInterrupt, HookTimeout):
            raise  # the user's; of the limit for the import of all plugins
        except BaseException as error:
            candidate.traceback = _trace(error)
            self._failed(candidate, error, known)
            return
        if not loads_itself and not candidate.asked:
            self._put_aside(candidate, IDLE, f"only when asked for: -p {candidate.name}")
            return
        for other in twins:
            self.errors.append(
                f"plugin {candidate} is the same object as plugin\n"
                f"  '{other.name}' ({other.source}). Name it once."
            )
            self._put_aside(candidate, BROKEN, f"the same object as '{other.name}'")
            return
        if not candidate.version and isinstance(version, str):
            candidate.version = version
        module = sys.modules.get(type(plugin).__module__)  # of an object's class
        written = plugin if isinstance(plugin, ModuleType) else module
        candidate.file = getattr(written, "__file__", None)
        ready.append((candidate, plugin))

    def _declare(self, candidate: Candidate, plugin: object) -> bool:
        """Let a plugin declare hooks of its own; whether it may be registered."""
        if inspect.isclass(plugin):
            return True  # which is an error, below
        try:
            names = specs.declare(self.manager, plugin, self._limit)
        except SpecError as error:
            candidate.traceback = _trace(error.__cause__ or error)
            self._refuse(candidate, [f"plugin {candidate}: {error}"])
            return False
        if names:
            self.declared[candidate.name] = names
        return True

    def _register(self, candidate: Candidate, plugin: object, errors: Sequence[str] = ()) -> None:
        try:
            findings = examine(self.manager, plugin, candidate)
            self.warnings += findings.warnings
            errors = [*errors, *findings.errors]
            if not errors:
                self.manager.register(plugin, candidate.name)
        except Exception as error:  # of its properties, or of pluggy's own checks
            candidate.traceback = _trace(error)
            errors = [f"plugin {candidate} cannot be registered: {describe(error)}"]
            if self.manager.has_plugin(candidate.name):
                self.manager.unregister(name=candidate.name)
        if errors:
            self._refuse(candidate, errors)
            return
        candidate.status, candidate.hooks = LOADED, tuple(findings.hooks)
        self._registered.append((candidate, plugin))

    def _refuse(self, candidate: Candidate, errors: Sequence[str]) -> None:
        """An error if it was asked for, a warning if it is only installed."""
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
        where, line = import_place(error)
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


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _must_load(candidate: Candidate) -> bool:
    """Whether the start fails without it: for one that is only installed it is a warning."""
    return candidate.asked is not None or candidate.built_in or candidate.entry_point is None


def load_plugins(
    names: Iterable[str | AskedPlugin],
    *,
    autoload: bool = True,
    config_module: ModuleType | None = None,
    known: Sequence[Candidate] = (),
    limit: float | None = None,
) -> Plugins:
    """Load the built-ins, what is installed, what `names` ask for, then the config file.

    In this order they are registered, so the nearest to the user is called first. names: NAME
    or no:NAME, each perhaps with where it was written; the last word on a plugin wins. known: as
    for `candidates.find`. limit: as for `Plugins`.
    Runs in the arbiter, in each fork server, and under --check and the listings.
    Raises PluginError for all that was asked for and cannot be had.
    """
    asked = [AskedPlugin(name) if isinstance(name, str) else name for name in names]
    plugins = Plugins(limit)
    try:
        found: Candidates | None = candidates.find(asked, autoload=autoload, known=known)
    except metadata.PackageNotFoundError:
        plugins.errors.append("resqued is not installed here; run: pip install -e .")
        found = None
    plugins.load(found, config_module)
    if plugins.errors:
        code = ExitCode.NO_PERMISSION if plugins.untrusted else ExitCode.CONFIG
        raise PluginError(plugins, code)
    return plugins
