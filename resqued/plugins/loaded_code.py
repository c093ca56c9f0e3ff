"""The files of plugins as they were when this process imported them, to notice newer ones.

A reload makes fork servers and workers import everything anew, but the arbiter keeps the plugins
that it has imported, except for the config file. Runs in the arbiter.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from resqued import hookspecs
from resqued.plugins.candidates import Candidate
from resqued.plugins.errors import short_path
from resqued.plugins.registry import Plugins

IN_ARBITER: Final = frozenset(
    hook
    for banner in ("Setup", "Arbiter", "Every process")
    for hook in hookspecs.LIFE_CYCLE[banner]
)
"""Hooks that run in the arbiter. The copy there of a plugin without one of them is not used."""


@dataclass(frozen=True)
class _Version:
    """Of one file."""

    changed: tuple[int, int]  # time of the last change in ns, size
    digest: bytes


class LoadedCode:
    """The files of all plugins that this process has had."""

    def __init__(self) -> None:
        self._files: dict[str, _Version | None] = {}

    def note(self, plugins: Plugins) -> None:
        """Remember the files of plugins that have just been loaded. The first time counts: a
        module is not imported again."""
        for _, files in _files_of(plugins):
            for file in files:
                if file not in self._files:
                    self._files[file] = _read(file)

    def warning(self, plugins: Plugins) -> str:
        """What to say of plugins whose files have changed; empty if none has.

        A file with another time but the same content has not changed.
        """
        changed = {
            candidate.name: file
            for candidate, files in _files_of(plugins)
            for file in files
            if file in self._files and self._has_changed(file)
        }
        if not changed:
            return ""
        names = ", ".join(f"'{name}'" for name in changed)
        files = ", ".join(dict.fromkeys(short_path(file) for file in changed.values()))
        who = f"plugin {names} has" if len(changed) == 1 else f"plugins {names} have"
        return (
            f"{who} changed on disk since the arbiter imported it ({files}); fork servers and"
            " workers get the new code with this reload, the arbiter with USR2"
        )

    def _has_changed(self, file: str) -> bool:
        known = self._files[file]
        if known is not None and _stat(file) == known.changed:
            return False
        now = _read(file)
        return (now and now.digest) != (known and known.digest)


def _files_of(plugins: Plugins) -> Iterator[tuple[Candidate, list[str]]]:
    for candidate, plugin in plugins.registered:
        if candidate.origin != "configuration file" and not IN_ARBITER.isdisjoint(candidate.hooks):
            written = plugin if isinstance(plugin, ModuleType) else None
            modules = [written, *map(sys.modules.get, (type(plugin).__module__, candidate.module))]
            found = [file for each in modules if each for file in _with_package(each)]
            yield candidate, list(dict.fromkeys(found))


def _with_package(module: ModuleType) -> Iterator[str]:
    """The files of a module, and of the modules of its package that are loaded."""
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return
    package = module.__name__
    while parent := package.rpartition(".")[0]:
        if getattr(sys.modules.get(parent), "__file__", None) is None:
            break  # a namespace, which others share
        package = parent
    for name, each in sorted(sys.modules.items()):
        if (name == module.__name__ or f"{name}.".startswith(f"{package}.")) and (
            file := getattr(each, "__file__", None)
        ):
            yield file


def _stat(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(file: str) -> _Version | None:
    """None if it cannot be read, such as one that a deployment has deleted."""
    changed = _stat(file)
    try:
        content = Path(file).read_bytes()
    except OSError:
        return None
    return _Version(changed, hashlib.sha256(content).digest()) if changed else None
