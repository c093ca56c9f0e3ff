"""What can be said without a start: for `--help`, the listings and `--status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from resqued.plugins.loading import Plugins
from resqued.settings import flags
from resqued.settings.loading import Loading, absent, enter, read_early
from resqued.settings.setting import Setting
from resqued.settings.sources import Sources


@dataclass(frozen=True)
class Survey:
    """What there is, however much of it is wrong."""

    settings: tuple[Setting, ...]
    plugins: Plugins
    errors: tuple[str, ...]


def survey(argv: Sequence[str], environ: Mapping[str, str], directory: str) -> Survey:
    """Look at the config file and the plugins without minding what is wrong with them.

    Raises Refused for a wrong flag.
    """
    enter(directory)
    loading = Loading(argv, environ, directory)
    known = loading.sources()
    plugins = loading.plugins(known)
    loading.add_options(plugins.hooks(), plugins, known)
    errors = tuple(problem.text for problem in loading.problems)
    if not errors:  # else a flag may belong to what could not be loaded
        loading.flags(absent(plugins, known))
        loading.refuse()
    return Survey(tuple(loading.declared.settings.values()), plugins, errors)


def pid_file(
    argv: Sequence[str], environ: Mapping[str, str], directory: str
) -> tuple[str | None, tuple[str, ...]]:
    """The pid file that is named, if one is, and what is wrong with the config file.

    The file is read only if flags and environment name none, and plugins are loaded only for the
    flags that may be theirs. Raises Refused for a wrong flag.
    """
    enter(directory)
    try:
        flags.split(argv)
    except click.UsageError:  # a plugin's flag, or nobody's
        _know_all_flags(argv, environ, directory)
    loading = Loading(argv, environ, directory)
    value = read_early("pid", Sources(flags.glance(argv).given, environ))
    if value is None:
        value = read_early("pid", loading.sources())
    errors = tuple(problem.text for problem in loading.problems)
    return (loading.absolute(value) if value else None), errors


def _know_all_flags(argv: Sequence[str], environ: Mapping[str, str], directory: str) -> None:
    """Raises Refused."""
    loading = Loading(argv, environ, directory)
    known = loading.sources()
    plugins = loading.plugins(known)
    loading.add_options(plugins.hooks(), plugins, known)
    loading.problems.clear()  # what cannot be loaded has no flags here
    loading.flags(absent(plugins, known))
    loading.refuse()
