"""Where values come from: defaults < RQ's settings < file < environment < flags < hooks.

RQ's are, weakest first: REDIS_* in the environment, its settings module, its own variables.

Everything is read, also what something stronger replaces, and everything wrong is kept as a
problem with its source, so that one start tells it all.
"""

from __future__ import annotations

import contextlib
import enum
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from resqued import isolation, terms
from resqued.exits import ExitCode
from resqued.plugins.finding import Asked
from resqued.settings.configfile import ConfigFile, is_code
from resqued.settings.refusal import Problem
from resqued.settings.rq import RqSettings
from resqued.settings.setting import Setting, nearest
from resqued.settings.table import SETTINGS
from resqued.settings.values import Wrong
from resqued.shares import Queue


class Rank(enum.IntEnum):
    """The kinds of sources, weakest first."""

    DEFAULT = 0
    AMBIENT = 1  # REDIS_HOST and its like, which may be meant for something else
    FALLBACK = 2
    FILE = 3
    ENVIRONMENT = 4
    FLAG = 5
    HOOK = 6


@dataclass(frozen=True)
class Value:
    """A setting's value and its source as messages name it: `--queue`, `resqued.conf.py:3`."""

    value: Any
    rank: Rank = Rank.DEFAULT
    source: str = "default"


@dataclass(frozen=True)
class Sources:
    """What there is to read."""

    flags: Mapping[str, Any] = field(default_factory=dict)  # as `flags.split` gives it
    environ: Mapping[str, str] = field(default_factory=dict)
    file: ConfigFile | None = None
    ambient: RqSettings = field(default_factory=RqSettings)  # of the environment
    module: RqSettings = field(default_factory=RqSettings)  # of RQ's settings module


@dataclass
class Reading:
    """What came of it."""

    values: dict[str, Value] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, setting: Setting, sources: Sources) -> None:
        """Read one setting from everywhere and keep the strongest value, or the sum of all."""
        found = [Value(setting.default)]
        candidates = list(_candidates(setting, sources))
        for rank, source, read in candidates:
            if rank is Rank.AMBIENT and candidates[-1][0] is not Rank.AMBIENT:
                continue  # what is wrong there is nobody's mistake
            try:
                found.append(Value(read(), rank, source))
            except ValueError as error:
                self._wrong(setting, rank, source, error)
        if setting.added:
            total = tuple(item for value in found for item in value.value)
            self.values[setting.name] = Value(total, found[-1].rank, found[-1].source)
        else:
            self.values[setting.name] = found[-1]

    def note_absent(self, setting: Setting, sources: Sources) -> None:
        """A setting of a plugin that is not loaded: an error as a flag, else a warning."""
        for rank, source, _ in _candidates(setting, sources):
            owner = f"belongs to plugin '{setting.plugin}', which is {setting.absent}"
            if rank is Rank.FLAG:
                text = f"{source}: it {owner}; load the plugin, or leave the flag out"
                self.problems.append(Problem(text, ExitCode.USAGE))
            else:
                named = f"{source}: {setting.name}" if rank is Rank.FILE else source
                self.warnings.append(f"{named} {owner}")

    def _wrong(self, setting: Setting, rank: Rank, source: str, error: ValueError) -> None:
        if rank is Rank.FILE:
            source = f"{source}: {setting.name}"
        told = error.problems if isinstance(error, Wrong) else [str(error)]
        if setting.secret and setting.plugin:
            told = ["its value cannot be (it is not shown)"]
        code = ExitCode.USAGE if rank is Rank.FLAG else ExitCode.CONFIG
        self.problems += [Problem(f"{source}: {text}", code) for text in told]

    def blame(self, setting: str, text: str) -> None:
        """Keep a problem of a value that was read, with its source."""
        value = self.values[setting]
        named = setting if value.rank in (Rank.FILE, Rank.HOOK, Rank.DEFAULT) else ""
        code = ExitCode.USAGE if value.rank is Rank.FLAG else ExitCode.CONFIG
        prefix = ": ".join(part for part in (value.source, named) if part)
        self.problems.append(Problem(f"{prefix}: {text}", code))


def _candidates(
    setting: Setting, sources: Sources
) -> Iterator[tuple[Rank, str, Callable[[], Any]]]:
    """Every place that has a value, weakest first, with how to read it there."""
    for value in sources.ambient.of(setting.name):
        yield Rank.AMBIENT, value.source, value.read
    for value in sources.module.of(setting.name):
        yield Rank.FALLBACK, value.source, value.read
    # an empty variable is what an unset one becomes in many a service file
    if text := sources.environ.get(setting.fallback):
        yield Rank.FALLBACK, setting.fallback, partial(_from_variable, setting, text)
    if sources.file and setting.in_file:
        given = {**dict(sources.file.imported()), **dict(sources.file.assigned())}
        if setting.name in given:
            read = partial(setting.kind.take, given[setting.name])
            yield Rank.FILE, sources.file.source(setting.name), read
    if text := sources.environ.get(setting.variable):
        yield Rank.ENVIRONMENT, setting.variable, partial(_from_variable, setting, text)
    if setting.name in sources.flags:
        yield Rank.FLAG, setting.flag, partial(_from_flag, setting, sources.flags[setting.name])


def _from_variable(setting: Setting, text: str) -> Any:
    if not setting.kind.many:
        return setting.kind.read(text)
    return _read_all(setting, [item.strip() for item in text.split(",") if item.strip()])


def _from_flag(setting: Setting, given: Any) -> Any:
    if setting.kind.switch:
        return given
    return _read_all(setting, given) if setting.kind.many else setting.kind.read(given)


def _read_all(setting: Setting, texts: list[str]) -> tuple[Any, ...]:
    read: list[Any] = []
    problems: list[str] = []
    for text in texts:
        try:
            read.append(setting.kind.read(text))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise Wrong(problems)
    return tuple(read)


def read_all(settings: Mapping[str, Setting], sources: Sources) -> Reading:
    """Read every setting from everywhere."""
    reading = Reading()
    for setting in settings.values():
        reading.read(setting, sources)
    return reading


def asked_plugins(sources: Sources) -> list[Asked]:
    """The plugins that are named, each with where; what is wrong with a name is told later."""
    setting = {setting.name: setting for setting in SETTINGS}["plugins"]
    asked: list[Asked] = []
    for rank, source, read in _candidates(setting, sources):
        where = "-p" if rank is Rank.FLAG else source
        with contextlib.suppress(ValueError):
            asked += [Asked(name, where) for name in read()]
    return asked


def find_strangers(
    reading: Reading,
    settings: Mapping[str, Setting],
    sources: Sources,
    absent: Mapping[str, str],
) -> None:
    """Names in the file and the environment that are no settings.

    absent: plugins that are not loaded, and why; a setting that begins with the name of one is
    probably its own.
    """
    if sources.file:
        _strangers_in(sources.file, reading, settings, absent)
    known = {setting.variable for setting in settings.values()}
    for name in sources.environ:
        if name.startswith("RESQUED_") and name not in known:
            close = nearest(name.removeprefix("RESQUED_").lower(), list(settings))
            if close:  # others, such as RESQUED_PORT in a cluster, are nobody's mistake
                meant = settings[close].variable
                reading.warnings.append(f"{name} is no setting; did you mean {meant}?")


def _strangers_in(
    file: ConfigFile, reading: Reading, settings: Mapping[str, Setting], absent: Mapping[str, str]
) -> None:
    for name, value in file.assigned():
        if name.lower() != name:
            meant = _RQ_NAMES.get(name, name.lower())
            if meant in settings and reading.values[meant].rank < Rank.FILE:
                reading.warnings.append(
                    f"{file.source(name)}: {name} is no setting; did you mean {meant}?"
                )
        elif name not in settings and not is_code(value):
            _stranger(reading, name, file.source(name), list(settings), absent)
        elif name in settings and not settings[name].in_file:
            text = f"{file.source(name)}: {name} cannot be set in the file itself"
            reading.problems.append(Problem(text))


_RQ_NAMES = {"REDIS_URL": "redis", "REDIS_HOST": "redis", "SENTINEL": "redis", "QUEUES": "queues"}


def _stranger(
    reading: Reading, name: str, source: str, known: list[str], absent: Mapping[str, str]
) -> None:
    for plugin, reason in absent.items():
        if name.startswith(plugin.replace("-", "_") + "_"):
            text = f"{source}: {name} belongs to plugin '{plugin}', which is {reason}"
            reading.warnings.append(text)
            return
    close = nearest(name, known)
    remedy = f"did you mean {close}?" if close else f"call it _{name} if it is your own"
    reading.problems.append(Problem(f"{source}: unknown setting {name}; {remedy}"))


def check_together(reading: Reading) -> None:
    """What is wrong between values that are well by themselves. Runs before and after hooks."""
    queues: tuple[Queue, ...] = reading.values["queues"].value
    if not queues:
        reading.blame("queues", "no queue is named; leave it out for 'default'")
    for name, count in Counter(queue.name for queue in queues).items():
        if count > 1:
            reading.blame("queues", f"queue '{name}' is named {count} times; once is enough")
    served = {queue.name for queue in queues}
    for queue in terms.split(reading.values["on_term"].value)[1]:
        if queue not in served and "*" not in served:
            reading.blame("on_term", f"queue '{queue}' is not served here; see --queue")
    isolated: tuple[str, ...] = reading.values["isolation"].value
    for queue in isolation.split(isolated)[1]:
        if queue not in served and "*" not in served:
            reading.blame("isolation", f"queue '{queue}' is not served here; see --queue")
    worker_class: str = reading.values["worker_class"].value
    if isolation.forks(isolated) and worker_class.partition(".")[0] == "rq":
        reading.blame(
            "isolation",
            f"fork cannot be had with the worker class '{worker_class}', which runs jobs its own"
            " way; leave one of the two out",
        )
    if worker_class.rpartition(".")[2] == "SpawnWorker":
        reading.blame(
            "worker_class",
            f"'{worker_class}' cannot be used: it shows the password of Redis to everybody, and"
            " plugins are not loaded where its jobs run; rq.Worker forks a process for each job",
        )
    verbose, quiet = reading.values["verbose"], reading.values["quiet"]
    if verbose.value and quiet.value:
        if verbose.rank == quiet.rank:
            reading.blame("quiet", "it cannot be both quiet and verbose")
        weaker = "quiet" if verbose.rank > quiet.rank else "verbose"
        reading.values[weaker] = Value(False)


def state_directory(environ: Mapping[str, str]) -> str | None:
    """Where plugins keep data when nobody says: systemd's choice, else that of the desktop."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return given
    home = environ.get("XDG_STATE_HOME", "")
    if Path(home).is_absolute():
        return f"{home}/resqued"
    try:
        return str(Path("~/.local/state/resqued").expanduser())
    except RuntimeError:
        return None  # this user has no home
