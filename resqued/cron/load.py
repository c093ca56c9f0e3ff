"""Loading what `--cron` names: all definitions, or all errors. Runs in the fork server."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from rq.serializers import resolve_serializer

from resqued.cron import registrations, zones
from resqued.cron.checks import Surroundings, define
from resqued.cron.definition import Definition
from resqued.cron.registrations import TooMany
from resqued.cron.sources import NotFound, import_source
from resqued.namesakes import warning_of
from resqued.plugins.errors import describe, place
from resqued.printable import listed, printable

_SHOWN: Final = 100
"""So many errors are told; a mistake in a loop makes thousands."""

_LONGEST: Final = 500  # characters of an error


class BadCron(Exception):
    """Cron jobs cannot be loaded. `problems` are lines with place, job and remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.told()))

    def told(self) -> list[str]:
        """A line for each of them, or for the first and how many more there are."""
        lines = [printable(shortened(each)) for each in self.problems[:_SHOWN]]
        more = len(self.problems) - len(lines)
        return [*lines, f"... and {more} more errors"] if more > 0 else lines


def load(
    sources: Iterable[str],
    *,
    timezone: str | None = None,
    serializer: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Definition, ...]:
    """Import modules and files, and check all that has been registered in this process.

    A module that has been imported before is not executed again: what it has registered then
    counts, as does what is registered by modules that these import. timezone: of jobs that name
    none; None is the zone of local time. serializer: as the setting has it. warn: is told of what
    is strange and can be loaded.
    Raises BadCron with all errors.
    """
    registrations.watch_rq()
    problems: list[str] = []
    for source in sources:
        _import(source, problems, warn)
    definitions: list[Definition] = []
    zone, writer = _zone_of(timezone, problems), _serializer_of(serializer, problems)
    around = Surroundings(zone, writer, time.time())
    for registration in registrations.taken():
        definition, wrong = define(registration, around)
        problems += wrong
        if definition is not None:
            definitions.append(definition)
    problems += _clashes(definitions)
    if problems:
        raise BadCron(problems)
    return tuple(definitions)


def unserved(definitions: Iterable[Definition], served: Collection[str]) -> list[str]:
    """A warning for each queue that gets jobs and is not among these. `*` is every queue."""
    found: dict[str, list[str]] = {}
    for each in definitions:
        if each.queue not in served and "*" not in served:
            found.setdefault(each.queue, []).append(repr(each.name))
    return [
        f"queue {queue!r}, which is not served here, gets the cron jobs {listed(names)}"
        f" (served: {listed(list(served))})"
        for queue, names in found.items()
    ]


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} .."


def _import(source: str, problems: list[str], warn: Callable[[str], None]) -> None:
    try:
        name = import_source(source)
    except NotFound as error:
        problems.append(f"--cron {source}: {error}")
    except TooMany as error:
        problems.append(f"--cron {source}: {error}")
    except (Exception, SystemExit) as error:
        problems.append(f"--cron {source}: its import failed: {describe(error)} ({place(error)})")
    except BaseException as error:  # its time is up
        error.args = (f"{error}, in the import of --cron {source}",)
        raise
    else:
        if hidden := warning_of(name):
            warn(hidden)


def _serializer_of(name: str | None, problems: list[str]) -> Any:
    try:
        return resolve_serializer(name)
    except Exception as error:
        problems.append(f"serializer {name!r} cannot be used: {describe(error)}")
        return resolve_serializer()


def _zone_of(timezone: str | None, problems: list[str]) -> Callable[[], str]:
    if timezone is not None:
        try:
            zones.check(timezone)
        except ValueError as error:
            problems.append(f"--cron-timezone: {error}")
        return lambda: timezone

    @functools.cache
    def found() -> str | None:
        return zones.local()

    def local() -> str:
        if (name := found()) is None:
            raise ValueError(
                "it names no timezone, and the zone of this host has no name (TZ, /etc/localtime,"
                " /etc/timezone); give timezone='Europe/Berlin', or --cron-timezone for all"
            )
        return name

    return local


def _clashes(definitions: Iterable[Definition]) -> list[str]:
    """Two jobs with one identity."""
    known: dict[str, Definition] = {}
    found = []
    for each in definitions:
        first = known.setdefault(each.key, each)
        if first is each:
            continue
        at = f"{each.place}: " if each.place else ""
        where = f" at {first.place}" if first.place else ""
        if each.of_rq and first.of_rq:
            text = (
                f"is registered{where} already, with the same function, arguments, queue and"
                " schedule; take one away, or give it another name"
            )
        else:
            text = f"has the name of the one registered{where}; give it another: name='...'"
        found.append(f"{at}cron job {each.name!r} {text}")
    return found
