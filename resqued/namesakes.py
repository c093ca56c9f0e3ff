"""Modules of one name in two places: installed, and in the working directory.

The working directory is last on the path, so the installed one is imported. A warning names both.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder

from resqued import logs
from resqued.logs import LogEvent


def put_first(directories: Iterable[str]) -> None:
    """Look for modules there before anywhere else, in this order. Absolute paths."""
    wanted = list(dict.fromkeys(directories))
    sys.path[:] = [*wanted, *(entry for entry in sys.path if entry not in wanted)]


def put_last(directory: str) -> None:
    """Look for modules there when they are nowhere else. An absolute path."""
    if directory not in sys.path:
        sys.path.append(directory)


def warning_of(module: str) -> str:
    """The warning for a module, imported or about to be, that `put_last` has hidden; else empty."""
    try:
        directory = os.getcwd()  # noqa: PTH109
        top = module.partition(".")[0]
        taken = _file_of(_spec_of(top))
        other = _file_of(PathFinder.find_spec(top, [directory]))
        if not taken or not other or os.path.samefile(taken, other):  # noqa: PTH121
            return ""
    except (OSError, ValueError, ImportError, AttributeError):  # a module may set any `__spec__`
        return ""
    return (
        f"module '{top}' is taken from {taken}, and {other} in the working directory is not"
        " used; --path . puts the working directory first"
    )


@functools.lru_cache(maxsize=256)  # bounded: jobs may name any module
def warn_once(module: str) -> None:
    """Log it once per process and module: for the modules of jobs. Runs in workers."""
    if text := warning_of(module):
        logs.warning(text, LogEvent.SETTING_WARNING)


def _spec_of(top: str) -> ModuleSpec | None:
    loaded = sys.modules.get(top)
    return getattr(loaded, "__spec__", None) if loaded else importlib.util.find_spec(top)


def _file_of(spec: ModuleSpec | None) -> str:
    """A module's file, or that of a package; empty for built-in ones and folders without code."""
    return spec.origin if spec and spec.has_location and spec.origin else ""
