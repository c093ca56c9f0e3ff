"""What can be said without a start: for `--help`, the listings and `--status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resqued.plugins.loading import Plugins
from resqued.settings import flags
from resqued.settings.loading import OURS, Loading, absent, enter, read_early
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
    loading.add_options(plugins.hooks())
    errors = tuple(problem.text for problem in loading.problems)
    if not errors:  # else a flag may belong to what could not be loaded
        loading.flags(absent(plugins, known))
        loading.refuse()
    return Survey(tuple(loading.declared.settings.values()), plugins, errors)


def early(argv: Sequence[str], environ: Mapping[str, str], directory: str, name: str) -> Any:
    """The value of one setting, without plugins; the file is asked last, and only if need be.

    Raises Refused if the file is wrong.
    """
    enter(directory)
    loading = Loading(argv, environ, directory)
    value = read_early(name, Sources(flags.glance(argv).given, environ))
    if value is None:
        value = read_early(name, loading.sources())
        loading.refuse()
    return loading.absolute(value) if value and OURS[name].kind.path else value
