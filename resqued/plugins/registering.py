"""Loading what was found: checked, registered, or put aside with the reason."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from resqued.ownership import Untrusted
from resqued.plugins import finding
from resqued.plugins.errors import describe
from resqued.plugins.finding import Candidate, Candidates
from resqued.plugins.validating import Findings, Manager, examine

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


class Registration:
    """The work of one `load_plugins`: a manager, and what is to be said about it."""

    def __init__(self, config_module: ModuleType | None) -> None:
        self.manager = Manager(config_module)
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.untrusted = False  # a file that others could have written was not run
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
        for name in dict.fromkeys(candidate.name for candidate in wanted):
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
        except Untrusted as error:
            self.untrusted = True
            self.errors.append(f"plugin {candidate}: {error}")
            self._put_aside(candidate, BROKEN, str(error))
            return
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
        self._loaded.append(
            PluginInfo(
                candidate.name,
                candidate.origin,
                LOADED,
                distribution=candidate.distribution,
                version=candidate.version or _version_of(plugin),
                file=_file_of(plugin),
                hooks=tuple(findings.hooks),
            )
        )

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
        self._rest.append(
            PluginInfo(
                candidate.name,
                candidate.origin,
                status,
                distribution=candidate.distribution,
                version=candidate.version,
                file=str(candidate.file) if candidate.file else None,
                error=error,
                traceback=traceback,
            )
        )


def _version_of(plugin: object) -> str | None:
    """Of a module that no distribution has brought."""
    version = getattr(plugin, "__version__", None)
    return version if isinstance(version, str) else None


def _file_of(plugin: object) -> str | None:
    """Where a plugin is written: the module, or that of an object's class."""
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(type(plugin).__module__)
    return getattr(module, "__file__", None)
