"""Files that a start could not write, for `--check`: neither opened nor created."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from resqued.arbiter import pidfile
from resqued.arbiter.pidfile import PidFileError
from resqued.config import Config
from resqued.exits import ExitCode, Problem
from resqued.ownership import Untrusted, check_link


def problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the pid file and the log files that the settings name."""
    for name in ("pid", "log_file", "stdout_path", "stderr_path"):
        path = getattr(config, name)
        if path is None:
            continue
        try:
            yield from _problems_of(name, path)
        except OSError as error:  # a name that is too long, a loop of links
            text = f"{name}: '{path}' cannot be written: {error.strerror}"
            yield Problem(text, ExitCode.CANNOT_CREATE)


def _problems_of(name: str, path: str) -> Iterator[Problem]:
    folder = Path(path).parent
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(path)  # noqa: PTH116  # raises for a loop of links, where `exists` returns False
    if not folder.is_dir():
        text = f"{name}: '{path}' cannot be written: there is no folder {folder}"
        yield Problem(text, ExitCode.CANNOT_CREATE)
    elif Path(path).is_dir():
        text = f"{name}: '{path}' cannot be written: it is a folder"
        yield Problem(text, ExitCode.CANNOT_CREATE)
    elif not os.access(path if Path(path).exists() else folder, os.W_OK):
        text = f"{name}: '{path}' cannot be written by this user"
        yield Problem(text, ExitCode.CANNOT_CREATE)
    elif name == "pid":
        try:
            pidfile.check_path(path)
        except PidFileError as error:
            if error.exit_code != ExitCode.TRY_LATER:  # an arbiter runs, so the settings are well
                yield Problem(str(error), error.exit_code)
    else:
        try:
            check_link(path)
        except Untrusted as error:
            yield Problem(f"{name}: {error}", ExitCode.NO_PERMISSION)


def warnings(config: Config) -> Iterator[str]:
    """What a start may be refused for, and a reload is not: a pid file that is in use, a pipe
    without a reader."""
    for name in ("log_file", "stdout_path", "stderr_path"):
        path = getattr(config, name)
        if path is not None and Path(path).is_fifo():
            yield f"{name}: '{path}' is a named pipe; a start is refused while it has no reader"
    if config.pid is None:
        return
    try:
        pidfile.check_path(config.pid)
    except PidFileError as error:
        if error.exit_code == ExitCode.TRY_LATER:
            yield f"{error}; a start would be refused now"
