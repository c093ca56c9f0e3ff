"""What can be said without a start: for `--help`, the listings and `--status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click

from resqued.plugins.registry import Plugins
from resqued.setting import Setting
from resqued.settings import command_line
from resqued.settings.command_line import CommandLine
from resqued.settings.loader import Loader
from resqued.settings.sources import Sources


@dataclass(frozen=True)
class Survey:
    """What there is, however much of it is wrong."""

    settings: list[Setting]
    plugins: Plugins
    errors: tuple[str, ...]


def survey(line: CommandLine, environ: Mapping[str, str], directory: str) -> Survey:
    """Look at the config file and the plugins; what is wrong with them is only collected.

    Raises InvalidSettings for a wrong flag.
    """
    loader = Loader(line, environ, directory)
    loader.read_sources()
    loader.load_plugins()
    errors = tuple(problem.text for problem in loader.reading.problems)
    if not errors:  # else a flag may belong to what could not be loaded
        loader.parse()
        loader.refuse()
    return Survey(
        [each for each in loader.settings.values() if not each.absent], loader.plugins, errors
    )


def pid_file(
    line: CommandLine, environ: Mapping[str, str], directory: str
) -> tuple[str | None, tuple[str, ...]]:
    """The pid file that is named, if one is, and what is wrong with the config file.

    The file is read only if flags and environment name none, and plugins are loaded only for the
    flags that may be theirs. Raises InvalidSettings for a wrong flag.
    """
    loader = Loader(line, environ, directory)
    try:
        command_line.parse(line.argv)
    except click.UsageError:  # a plugin's flag, or one that does not exist
        loader.read_sources()
        loader.load_plugins()
        loader.reading.problems.clear()  # what cannot be loaded has no flags here
        loader.parse()
        loader.refuse()
    value = Sources(line.values, environ).read_early("pid")
    if value is None:
        loader.read_sources()
        value = loader.sources.read_early("pid")
    errors = tuple(problem.text for problem in loader.reading.problems)
    return (loader.absolute(value) if value else None), errors
