"""Where values come from: defaults < RQ's settings < file < environment < flags < hooks.

RQ's are, weakest first: REDIS_* in the environment, its settings module, its own variables.

Everything is read, also what something stronger replaces, and every problem is kept with its
source, so that one start reports all of them.
"""

from __future__ import annotations

import contextlib
import enum
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from resqued.config import SETTINGS
from resqued.exits import ExitCode, Problem
from resqued.kinds import AutoCount, Wrong, read_each
from resqued.plugins.candidates import AskedPlugin
from resqued.queue_words import ISOLATION, ON_TERM, forks
from resqued.setting import Setting
from resqued.settings.configfile import ConfigFile, is_code
from resqued.settings.options import nearest
from resqued.settings.rq import RqSettings
from resqued.shares import QueueShare


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
class SettingValue:
    """A setting's value and its source as messages name it: `--queue`, `resqued.conf.py:3`."""

    value: Any
    rank: Rank = Rank.DEFAULT
    source: str = "default"


@dataclass(frozen=True)
class Sources:
    """What there is to read."""

    flags: Mapping[str, Any] = field(default_factory=dict)  # `values` of the command line
    environ: Mapping[str, str] = field(default_factory=dict)
    file: ConfigFile | None = None
    ambient: RqSettings = field(default_factory=RqSettings)  # of the environment
    module: RqSettings = field(default_factory=RqSettings)  # of RQ's settings module

    def find(self, setting: Setting) -> Iterator[tuple[Rank, str, Callable[[], Any]]]:
        """Every place that has a value, weakest first: rank, source, and how to read it there."""
        for value in self.ambient.of(setting.name):
            yield Rank.AMBIENT, value.source, value.read
        for value in self.module.of(setting.name):
            yield Rank.FALLBACK, value.source, value.read
        # an empty variable counts as an unset one, which it becomes in many a service file
        if text := self.environ.get(setting.fallback):
            yield Rank.FALLBACK, setting.fallback, partial(_read_variable, setting, text)
        if self.file and setting.in_file:
            given = {**dict(self.file.imported()), **dict(self.file.assigned())}
            if setting.name in given:
                read = partial(setting.kind.take, given[setting.name])
                yield Rank.FILE, self.file.source(setting.name), read
        if text := self.environ.get(setting.variable):
            yield Rank.ENVIRONMENT, setting.variable, partial(_read_variable, setting, text)
        if setting.name in self.flags:
            yield Rank.FLAG, setting.flag, partial(_read_flag, self.flags[setting.name])

    def read_early(self, name: str) -> Any:
        """One setting, before all can be read; what is wrong with it is reported later."""
        reading = Reading()
        reading.read(SETTINGS[name], self)
        return reading.values[name].value

    def asked_plugins(self) -> list[AskedPlugin]:
        """The plugins that are named, each with where."""
        asked: list[AskedPlugin] = []
        for rank, source, read in self.find(SETTINGS["plugins"]):
            where = "-p" if rank is Rank.FLAG else source
            with contextlib.suppress(ValueError):
                asked += [AskedPlugin(name, where) for name in read()]
        return asked


def _read_variable(setting: Setting, text: str) -> Any:
    if not setting.kind.many:
        return setting.kind.read(text)
    return read_each(setting.kind.read, filter(None, map(str.strip, text.split(","))))


def _read_flag(given: Any) -> Any:
    """Raise what click could not read. Raises ValueError."""
    errors = [each for each in _as_tuple(given) if isinstance(each, ValueError)]
    if errors:
        raise Wrong([str(error) for error in errors])
    return given


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass
class Reading:
    """What was read: values, problems and warnings."""

    values: dict[str, SettingValue] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, setting: Setting, sources: Sources) -> None:
        """Read one setting from everywhere and keep the strongest value, or the sum of all."""
        found = [SettingValue(setting.default)]
        candidates = list(sources.find(setting))
        for rank, source, read in candidates:
            if rank is Rank.AMBIENT and candidates[-1][0] is not Rank.AMBIENT:
                continue  # a wrong value there is meant for another program
            try:
                found.append(SettingValue(read(), rank, source))
            except ValueError as error:
                self._wrong(setting, rank, source, error)
        best = found[-1]
        if setting.added:
            total = tuple(item for value in found for item in value.value)
            best = SettingValue(total, best.rank, best.source)
        self.values[setting.name] = best

    def _wrong(self, setting: Setting, rank: Rank, source: str, error: ValueError) -> None:
        if rank is Rank.FILE:
            source = f"{source}: {setting.name}"
        texts = error.problems if isinstance(error, Wrong) else [str(error)]
        if setting.secret and setting.plugin:
            texts = ["its value cannot be (it is not shown)"]
        self.problems += [Problem(f"{source}: {text}", _code(rank)) for text in texts]

    def note_absent(self, setting: Setting, sources: Sources) -> None:
        """A setting of a plugin that is not loaded: an error as a flag, else a warning."""
        for rank, source, _ in sources.find(setting):
            owner = f"belongs to plugin '{setting.plugin}', which is {setting.absent}"
            if rank is Rank.FLAG:
                text = f"{source}: it {owner}; load the plugin, or leave the flag out"
                self.problems.append(Problem(text, ExitCode.USAGE))
            else:
                named = f"{source}: {setting.name}" if rank is Rank.FILE else source
                self.warnings.append(f"{named} {owner}")

    def blame(self, setting: str, text: str) -> None:
        """Keep a problem of a value that was read, with its source."""
        value = self.values[setting]
        named = setting if value.rank in (Rank.FILE, Rank.HOOK, Rank.DEFAULT) else ""
        prefix = ": ".join(part for part in (value.source, named) if part)
        self.problems.append(Problem(f"{prefix}: {text}", _code(value.rank)))

    def find_unknown(
        self, settings: Mapping[str, Setting], sources: Sources, absent: Mapping[str, str]
    ) -> None:
        """Names in the file and the environment that are no settings.

        absent: plugins that are not loaded, and why; a setting that begins with the name of one
        is probably its own.
        """
        for name, value in sources.file.assigned() if sources.file else ():
            source = sources.file.source(name) if sources.file else ""
            if name.lower() != name:
                meant = _RQ_NAMES.get(name, name.lower())
                if meant in settings and self.values[meant].rank < Rank.FILE:
                    text = f"{source}: {name} is no setting; did you mean {meant}?"
                    self.warnings.append(text)
            elif name not in settings and not is_code(value):
                self._unknown(name, source, list(settings), absent)
            elif name in settings and not settings[name].in_file:
                self.problems.append(Problem(f"{source}: {name} cannot be set in the file itself"))
        known = {setting.variable for setting in settings.values()}
        for name in sources.environ:
            if name.startswith("RESQUED_") and name not in known:
                word = name.removeprefix("RESQUED_").lower()
                if plugin := owner_of(word, absent):
                    text = f"{name} belongs to plugin '{plugin}', which is {absent[plugin]}"
                    self.warnings.append(text)
                elif close := nearest(
                    word, settings
                ):  # others, such as RESQUED_PORT in a cluster, are not meant as settings
                    meant = settings[close].variable
                    self.warnings.append(f"{name} is no setting; did you mean {meant}?")

    def _unknown(self, name: str, source: str, known: list[str], absent: Mapping[str, str]) -> None:
        if plugin := owner_of(name, absent):
            text = f"{source}: {name} belongs to plugin '{plugin}', which is {absent[plugin]}"
            self.warnings.append(text)
            return
        close = nearest(name, known)
        remedy = f"did you mean {close}?" if close else f"call it _{name} if it is your own"
        self.problems.append(Problem(f"{source}: unknown setting {name}; {remedy}"))

    def check_together(self) -> None:
        """Find values that exclude each other. Runs before and after the `configure` hooks."""
        self._bound_workers()
        queues: tuple[QueueShare, ...] = self.values["queues"].value
        if not queues:
            self.blame("queues", "no queue is named; leave it out for 'default'")
        for name, count in Counter(queue.name for queue in queues).items():
            if count > 1:
                self.blame("queues", f"queue '{name}' is named {count} times; once is enough")
        served = {queue.name for queue in queues}
        isolated: tuple[str, ...] = self.values["isolation"].value
        for setting, by_queue in (
            ("on_term", ON_TERM.split(self.values["on_term"].value)[1]),
            ("isolation", ISOLATION.split(isolated)[1]),
        ):
            for name in by_queue:
                if name not in served and "*" not in served:
                    self.blame(setting, f"queue '{name}' is not served here; see --queue")
        worker_class: str = self.values["worker_class"].value
        if forks(isolated) and worker_class.partition(".")[0] == "rq":
            self.blame(
                "isolation",
                f"fork cannot be had with the worker class '{worker_class}', which runs jobs its"
                " own way; leave one of the two out",
            )
        if worker_class.rpartition(".")[2] == "SpawnWorker":
            self.blame(
                "worker_class",
                f"'{worker_class}' cannot be used: it shows the password of Redis to everybody,"
                " and plugins are not loaded where its jobs run; rq.Worker forks a process for"
                " each job",
            )
        verbose, quiet = self.values["verbose"], self.values["quiet"]
        if verbose.value and quiet.value:
            if verbose.rank == quiet.rank:
                self.blame("quiet", "it cannot be both quiet and verbose")
            weaker = "quiet" if verbose.rank > quiet.rank else "verbose"
            self.values[weaker] = SettingValue(False)

    def _bound_workers(self) -> None:
        """`auto` obeys max_workers; a number of workers above it is a problem."""
        workers, most = self.values["workers"], self.values["max_workers"]
        if most.value is None or workers.value <= most.value:
            return
        if isinstance(workers.value, AutoCount):
            self.values["workers"] = replace(workers, value=AutoCount(most.value))
            return
        self.blame(
            "workers",
            f"{workers.value} workers are more than max_workers allows, {most.value}"
            f" ({most.source}); lower the one or raise the other",
        )


_RQ_NAMES: Final = {
    "REDIS_URL": "redis",
    "REDIS_HOST": "redis",
    "SENTINEL": "redis",
    "QUEUES": "queues",
}


def _code(rank: Rank) -> ExitCode:
    return ExitCode.USAGE if rank is Rank.FLAG else ExitCode.CONFIG


def owner_of(name: str, absent: Mapping[str, str]) -> str | None:
    """The plugin to which a flag or setting of this name would belong."""
    plain = name.replace("_", "-")
    owners = (plugin for plugin in absent if plain.startswith(f"{plugin.replace('_', '-')}-"))
    return next(owners, None)


def state_directory(environ: Mapping[str, str]) -> str | None:
    """The default of `state`: systemd's directory, else that of the desktop's convention."""
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
