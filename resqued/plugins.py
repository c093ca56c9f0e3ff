"""The plugins of one process: found, loaded, checked, registered.

Built once per run and once more per reload; nothing is kept on the module. What was asked for
must load; what is merely installed must not hurt.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy

from resqued import finding
from resqued.errors import describe
from resqued.exits import ExitCode
from resqued.finding import Asked, Candidate, Candidates
from resqued.hooks import Hooks
from resqued.validating import Findings, Manager, examine

LOADED: Final = "loaded"
BLOCKED: Final = "blocked"
BROKEN: Final = "broken"
IDLE: Final = "idle"
"""Installed and well, but only active when named: AUTOLOAD = False, or --no-autoload."""


@dataclass(frozen=True)
class PluginInfo:
    """One plugin, as the listings show it."""

    name: str
    origin: str  # built in, entry point, configuration file, or who asked for it
    status: str  # loaded, blocked, broken, idle
    distribution: str | None = None
    version: str | None = None
    file: str | None = None  # absolute
    hooks: tuple[str, ...] = ()  # in life-cycle order
    error: str = ""  # why it is broken, blocked by whom, or how to get it
    traceback: str = ""


class PluginError(Exception):
    """Plugins that were asked for cannot be had. Every fault at once, each a message.

    plugins: what could be loaded nevertheless, for the listings.
    """

    exit_code: Final = ExitCode.CONFIG

    def __init__(self, errors: Sequence[str], plugins: Plugins) -> None:
        super().__init__("\n".join(errors))
        self.errors = list(errors)
        self.plugins = plugins


class Plugins:
    """What was found, and the manager that holds what was loaded."""

    def __init__(
        self, manager: Manager, found: list[PluginInfo], warnings: list[str], errors: list[str]
    ) -> None:
        self.manager: pluggy.PluginManager = manager
        self.found = found
        self.warnings = warnings
        self.errors = errors

    def hooks(self, limit: float | None = None) -> Hooks:
        """The hooks, ready to be called. limit: seconds a call may take, None for no limit."""
        return Hooks(self.manager, limit=limit)

    def loaded(self) -> list[PluginInfo]:
        """In the order in which they are called."""
        return [info for info in self.found if info.status == LOADED]

    def new_since(self, old: Plugins) -> list[str]:
        """Names of plugins that are not the same objects as in `old`.

        After a reload: the config file, which was read anew, and what was added.
        """
        return [
            name
            for name, plugin in self.manager.list_name_plugin()
            if plugin is not None and old.manager.get_plugin(name) is not plugin
        ]

    def dropped_by(self, new: Plugins) -> list[str]:
        """Names of plugins that `new` does not have any more."""
        return [
            name
            for name, plugin in self.manager.list_name_plugin()
            if plugin is not None and not new.manager.has_plugin(name)
        ]

    def banner(self) -> str:
        """One line for the log: `plugins: statsd 0.3.0, shares; blocked: recycle`."""
        parts = [
            "plugins: "
            + (
                ", ".join(
                    f"{info.name} {info.version}"
                    if info.version and info.origin != "built in"
                    else info.name
                    for info in self.loaded()
                )
                or "none"
            )
        ]
        for status, text in ((BLOCKED, "blocked"), (BROKEN, "not loaded")):
            names = [info.name for info in self.found if info.status == status]
            if names:
                parts.append(f"{text}: {', '.join(names)}")
        return "; ".join(parts)


def load_plugins(
    names: Iterable[str | Asked],
    *,
    autoload: bool = True,
    config_module: ModuleType | None = None,
) -> Plugins:
    """Load the built-ins, what is installed, what `names` ask for, then the config file.

    In this order they are registered, so the nearest to the user is called first. names: NAME
    or no:NAME, each perhaps with where it was written; the last word on a plugin wins.
    Runs in the arbiter, in each fork server, and under --check and the listings.
    Raises PluginError for whatever was asked for and cannot be had, all of it at once.
    """
    asked = [Asked(name) if isinstance(name, str) else name for name in names]
    finding.make_importable(str(Path.cwd()))
    loading = _Loading(config_module)
    try:
        candidates = finding.find(asked, autoload=autoload)
    except metadata.PackageNotFoundError:
        loading.errors.append("resqued is not installed here; run: pip install -e .")
    else:
        loading.warnings += candidates.warnings
        loading.load_all(candidates)
    if config_module is not None:
        loading.take_config(config_module)
    plugins = Plugins(loading.manager, loading.found(), loading.warnings, loading.errors)
    if plugins.errors:
        raise PluginError(plugins.errors, plugins)
    return plugins


class _Loading:
    """The work of one `load_plugins`."""

    def __init__(self, config_module: ModuleType | None) -> None:
        self.manager = Manager(config_module)
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._loaded: list[PluginInfo] = []
        self._rest: list[PluginInfo] = []
        self._registered: list[tuple[Candidate, object]] = []

    def found(self) -> list[PluginInfo]:
        return [*reversed(self._loaded), *self._rest]

    def load_all(self, candidates: Candidates) -> None:
        known = [*candidates.wanted, *candidates.blocked, *candidates.unnamed]
        clashing = self._clashes(candidates.wanted)
        for candidate in candidates.wanted:
            if candidate.name not in clashing:
                self._load(candidate, known)
        for candidate in candidates.unnamed:
            self._put_aside(candidate, IDLE, f"not named; -p {candidate.name} loads it")
        for candidate in candidates.blocked:
            self._put_aside(candidate, BLOCKED, f"blocked by {candidate.blocked}")

    def take_config(self, module: ModuleType) -> None:
        file = str(module.__file__)
        name = Path(file).name
        findings = examine(self.manager, module, name, f"'{name}'")
        self.warnings += findings.warnings
        self.errors += findings.errors
        info = PluginInfo(
            name,
            "configuration file",
            BROKEN if findings.errors else LOADED,
            file=file,
            hooks=tuple(findings.hooks),
            error="\n".join(findings.errors),
        )
        if findings.errors:
            self._rest.append(info)
        else:
            self.manager.register(module, name)
            self._loaded.append(info)

    def _clashes(self, wanted: list[Candidate]) -> set[str]:
        clashing = set()
        for name in {candidate.name for candidate in wanted}:
            same = [candidate for candidate in wanted if candidate.name == name]
            if len(same) == 1:
                continue
            clashing.add(name)
            lines = "".join(f"\n    {candidate.source}" for candidate in same)
            text = (
                f"two plugins are called '{name}':{lines}\n"
                "  Drop one: -p no:<distribution>, or uninstall it."
            )
            self.errors.append(text)
            for candidate in same:
                self._put_aside(candidate, BROKEN, f"two plugins are called '{name}'")
        return clashing

    def _load(self, candidate: Candidate, known: list[Candidate]) -> None:
        try:
            plugin = candidate.load()
        except (Exception, SystemExit) as error:
            self._failed(candidate, error, known)
            return
        if getattr(plugin, "AUTOLOAD", True) is False and not candidate.asked:
            self._put_aside(candidate, IDLE, f"only when asked for: -p {candidate.name}")
            return
        for other, registered in self._registered:
            if registered == plugin:  # as pluggy compares them
                text = (
                    f"plugin {candidate} is the same object as plugin\n"
                    f"  '{other.name}' ({other.source}). Name it once."
                )
                self.errors.append(text)
                self._put_aside(candidate, BROKEN, f"the same object as '{other.name}'")
                return
        findings = examine(self.manager, plugin, candidate.name, str(candidate))
        self.warnings += findings.warnings
        if findings.errors:
            self._unfit(candidate, findings)
            return
        self.manager.register(plugin, candidate.name)
        self._registered.append((candidate, plugin))
        self._loaded.append(_info(candidate, LOADED, plugin=plugin, hooks=findings.hooks))

    def _failed(self, candidate: Candidate, error: BaseException, known: list[Candidate]) -> None:
        told = describe(error)
        text = "".join(traceback.format_exception(error)).rstrip()
        if finding.is_missing(candidate, error):
            self.errors.append(finding.missing(candidate, known))
            self._put_aside(candidate, BROKEN, "there is no such plugin", text)
            return
        self._put_aside(candidate, BROKEN, told, text)
        where, line = finding.import_place(error)
        if candidate.asked or candidate.built_in:
            at = f"\n  at {where}: {line}".rstrip(": ") if where else ""
            self.errors.append(
                f"plugin {candidate} failed to import.\n  {told}{at}\n"
                f"  Start without it: -p no:{candidate.name}. Full traceback: -v."
            )
            return
        at = f" ({where})" if where else ""
        self.warnings.append(
            f"plugin {candidate} not loaded: {told}{at}. resqued goes on without it;"
            f" -p no:{candidate.name} silences this."
        )

    def _unfit(self, candidate: Candidate, findings: Findings) -> None:
        self._put_aside(candidate, BROKEN, "\n".join(findings.errors))
        if candidate.asked or candidate.built_in:
            self.errors += findings.errors
            return
        self.warnings += [
            f"{error}\n  It is not loaded, resqued goes on without it;"
            f" -p no:{candidate.name} silences this."
            for error in findings.errors
        ]

    def _put_aside(
        self, candidate: Candidate, status: str, error: str, traceback: str = ""
    ) -> None:
        self._rest.append(_info(candidate, status, error=error, traceback=traceback))


def _info(candidate: Candidate, status: str, *, plugin: object = None, **more: Any) -> PluginInfo:
    module = plugin if isinstance(plugin, ModuleType) else None
    file = getattr(module, "__file__", None) or (str(candidate.file) if candidate.file else None)
    if plugin is not None and file is None:
        file = getattr(sys.modules.get(type(plugin).__module__), "__file__", None)
    version = candidate.version or getattr(module, "__version__", None)
    return PluginInfo(
        candidate.name,
        candidate.origin,
        status,
        distribution=candidate.distribution,
        version=version if isinstance(version, str) else None,
        file=file,
        hooks=tuple(more.pop("hooks", ())),
        **more,
    )
