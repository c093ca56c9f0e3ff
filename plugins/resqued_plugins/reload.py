"""reload: in development, a new generation when the application's Python files change (`--reload`).

Watched are the working directory, the folders of `--path`, and those of the modules that are
imported (`--require`), without installed packages. A file that cannot be imported changes nothing:
the generation in service stays, as with any reload, until the file is saved again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from loguru import logger

from resqued import Arbiter, Config, ConfigError, Draft, Options, hookimpl

DEBOUNCE: Final = 300
"""Milliseconds in which changes count as one: a checkout writes many files."""

LOOK: Final = 500
"""Milliseconds between two looks at whether the settings have changed."""

INSTALLED: Final = ("site-packages", "dist-packages")


@hookimpl(tryfirst=True)  # so that a clash of names is an error of the other plugin
def add_options(options: Options) -> None:
    options.add(
        "--reload",
        default=False,
        group="Application and plugins",
        help="In development: reload when a Python file of the application changes.",
    )


@hookimpl(trylast=True)
def configure(config: Draft) -> None:
    if not config.reload:
        return
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConfigError(
            "reload",
            "needs watchfiles, which is not installed",
            remedy="pip install 'resqued[reload]'",
        ) from None


@hookimpl
def arbiter_started(arbiter: Arbiter, reason: str) -> None:
    watch_if_asked(arbiter)


@hookimpl
def arbiter_ready(arbiter: Arbiter, reason: str, error: str | None) -> None:
    watch_if_asked(arbiter)


@hookimpl
def arbiter_stopping(arbiter: Arbiter, graceful: bool, dropped: bool) -> None:
    _watching.discard(arbiter.pid)


_watching: set[int] = set()
"""The arbiter's pid, once its files are watched."""


def watch_if_asked(arbiter: Arbiter) -> None:
    """Begin to watch, in a thread that ends with the arbiter or when the plugin is dropped."""
    if arbiter.config.reload and arbiter.pid not in _watching:
        _watching.add(arbiter.pid)
        arbiter.every(0.01, Watch(arbiter).turn)


class Watch:
    """What is watched now. `turn` runs in a thread of the arbiter."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._paths: tuple[str, ...] = ()
        self._changes: Iterator[set[Any]] = iter(())

    def turn(self) -> None:
        """Wait a moment for changes, and reload if there are some."""
        config = self._arbiter.config
        paths = paths_of(config) if config.reload else ()
        if paths != self._paths:
            self._begin(paths)
        changes = next(self._changes, None)
        if changes is None:  # there is nothing to watch, or it has ended by an error
            self._paths = ()
            time.sleep(LOOK / 1000)
        elif changed := sorted({shown(file) for _, path in changes for file in files_of(path)}):
            more = f" and {len(changed) - 1} more have" if changed[1:] else " has"
            logger.info(f"reload: {changed[0]}{more} changed")
            self._arbiter.reload()

    def _begin(self, paths: tuple[str, ...]) -> None:
        from watchfiles import Change, PythonFilter, watch

        is_python = PythonFilter()

        def is_application(change: Change, path: str) -> bool:
            """Also of a new folder: what is in it may have been written before it was watched."""
            new = change is Change.added and Path(path).is_dir()
            return any(Path(path).glob("*.py")) if new else is_python(change, path)

        self._paths, self._changes = paths, iter(())
        if not paths:
            logger.info("reload: no longer watching")
            return
        logger.info(f"reload: watching {', '.join(map(shown, paths))}")
        self._changes = watch(
            *paths,
            watch_filter=is_application,
            debounce=DEBOUNCE,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )


def paths_of(config: Config) -> tuple[str, ...]:
    """The folders to watch, and the config file if it is in none of them."""
    folders = [Path.cwd(), *map(Path, config.path)]
    folders += [folder for module in config.require if (folder := folder_of(module)) is not None]
    if config.config is not None and config.config.endswith(".py"):
        folders.append(Path(config.config))
    found = sorted({path.resolve() for path in folders if path.exists()})
    return tuple(str(path) for path in found if not any(parent in found for parent in path.parents))


def folder_of(module: str) -> Path | None:
    """Where a module's package is, without importing it; None if it is installed, or not found."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent
            if spec.has_location and not set(INSTALLED) & set(folder.parts):
                return folder
    return None


def files_of(path: str) -> list[str]:
    """Of a new folder the Python files in it."""
    return [str(file) for file in Path(path).glob("*.py")] if Path(path).is_dir() else [path]


def shown(path: str) -> str:
    """A path, from the working directory if it is in there."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
