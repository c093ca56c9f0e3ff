"""Which plugins there are, which of them are wanted, and the import of one of them.

Nothing here registers anything, and what is blocked is not imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final, Self

from resqued.plugins.imports import import_plugin

GROUP: Final = "resqued"
"""The entry-point group, and the distribution whose entry points are the built-ins."""


@dataclass(frozen=True)
class AskedPlugin:
    """`NAME` or `no:NAME`, and where it was written: -p, RESQUED_PLUGINS or a file's name."""

    name: str
    where: str = "-p"

    def __str__(self) -> str:
        return f"-p {self.name}" if self.where == "-p" else f"{self.name} in {self.where}"


class _Names:
    """Names and versions of distributions, each read once: METADATA contains a whole README."""

    def __init__(self) -> None:
        self._read: dict[metadata.Distribution, tuple[str, str]] = {}

    def of(self, point: metadata.EntryPoint) -> tuple[str, str] | tuple[None, None]:
        dist = point.dist
        if dist is None:
            return None, None
        if dist not in self._read:
            headers = dist.metadata
            self._read[dist] = headers["Name"], headers["Version"]
        return self._read[dist]


@dataclass
class Candidate:
    """Something that can be loaded as a plugin, and what became of it."""

    name: str
    entry_point: metadata.EntryPoint | None = None
    path: Path | None = None  # of a file that is named
    attribute: str | None = None  # of an object in that file, or in the module that is named
    distribution: str | None = None
    version: str | None = None
    asked: AskedPlugin | None = None
    blocked: AskedPlugin | None = None
    status: str = ""  # one of `registry`
    file: str | None = None  # absolute; of an entry point known when it is loaded
    hooks: tuple[str, ...] = ()  # in life-cycle order
    error: str = ""  # why it is not loaded
    traceback: str = ""

    @classmethod
    def installed_as(cls, point: metadata.EntryPoint, names: _Names) -> Self:
        """With what its distribution says now: its files may be deleted later."""
        name, version = names.of(point)
        return cls(point.name, point, distribution=name, version=version)

    @classmethod
    def from_outside(cls, name: str) -> Self:
        """A file, or a module that is not an entry point; or an object in one of them."""
        place, colon, attribute = name.partition(":")
        wanted = attribute if colon else None
        if place.endswith(".py"):
            path = Path(place).resolve()
            return cls(f"{path.stem}{colon}{attribute}", None, path, wanted, file=str(path))
        return cls(name, attribute=wanted)

    @property
    def module(self) -> str:
        """The module that is imported, by its name; empty for a file."""
        if self.entry_point:
            return self.entry_point.module
        return "" if self.path else self.name.partition(":")[0]

    @property
    def word(self) -> str:
        """What the names of its options begin with: the name that its author has given it."""
        if self.entry_point:
            return self.entry_point.name
        return self.path.stem if self.path else self.module.rpartition(".")[2]

    def module_name(self, same: Sequence[Candidate]) -> str:
        """What tells an installed plugin from others of its name: `package.module`, or
        `package.module:object` if they are in one module."""
        assert self.entry_point is not None
        alone = sum(each.module == self.module for each in same) == 1
        return self.module if alone else _value(self.entry_point)

    @property
    def built_in(self) -> bool:
        """By its distribution, not by its name."""
        return _normal(self.distribution) == GROUP

    @property
    def origin(self) -> str:
        """`built in`, `entry point`, `configuration file`, or where it was asked for."""
        if self.built_in:
            return "built in"
        if self.asked:
            return str(self.asked)
        return "entry point" if self.entry_point else "configuration file"

    @property
    def package(self) -> str:
        """`built in`, or `resqued-statsd 0.3.0`; empty when no distribution is known."""
        if self.built_in:
            return "built in"
        return f"{self.distribution} {self.version}" if self.distribution else ""

    def __str__(self) -> str:
        """`'statsd' (resqued-statsd 0.3.0, -p statsd)`, as messages name it."""
        known = [text for text in (self.package, str(self.asked or "")) if text]
        return f"'{self.name}' ({', '.join(known)})" if known else f"'{self.name}'"

    @property
    def source(self) -> str:
        """`resqued-statsd 0.3.0, entry point resqued_statsd`, to tell two of a name apart."""
        if self.entry_point:
            return f"{self.package}, entry point {self.entry_point.value}"
        return str(self.asked)

    def load(self) -> object:
        """Import it. Raises whatever that raises, SystemExit too; else as `import_plugin`."""
        if self.entry_point:
            return self.entry_point.load()
        return import_plugin(self.module, self.path, self.attribute)

    def is_called(self, name: str) -> bool:
        """Whether `-p NAME` means this: its own name, its module, its object, or its file."""
        if self.entry_point:
            point = self.entry_point
            return name in (self.name, point.name, point.module, _value(point))
        place, colon, attribute = name.partition(":")
        same = self.path is not None and Path(place).resolve() == self.path
        return name == self.name or (same and (attribute if colon else None) == self.attribute)

    def is_blocked_by(self, name: str) -> bool:
        """Whether `-p no:NAME` means this: as above, or the module of an object, or the
        distribution."""
        return (
            self.is_called(name)
            or name == self.module
            or _normal(self.distribution) == _normal(name)
        )

    def is_missing(self, error: BaseException) -> bool:
        """Whether `error` says that there is no such plugin, rather than that it is broken."""
        if self.path:
            return isinstance(error, FileNotFoundError) and error.args == (self.path,)
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        return (
            not self.entry_point
            and missing is not None
            and f"{self.module}.".startswith(f"{missing}.")
        )


@dataclass
class Candidates:
    """All of them, in the order in which they are registered: called last to called first."""

    installed: list[Candidate] = field(default_factory=list)
    wanted: list[Candidate] = field(default_factory=list)
    blocked: list[Candidate] = field(default_factory=list)
    unnamed: list[Candidate] = field(default_factory=list)  # installed; autoload is off
    warnings: list[str] = field(default_factory=list)


def find(
    words: Sequence[AskedPlugin], *, autoload: bool, known: Sequence[Candidate] = ()
) -> Candidates:
    """Compare what is installed with what is asked for, word by word; the last word wins.

    known: what was installed when this process began, for when a deployment has deleted it.
    Raises PackageNotFoundError when resqued itself is not installed.
    """
    try:
        installed = _installed()
    except metadata.PackageNotFoundError:
        if not known:
            raise
        installed = [
            Candidate(
                c.entry_point.name, c.entry_point, distribution=c.distribution, version=c.version
            )
            for c in known
            if c.entry_point
        ]
    found = Candidates(installed)
    others: list[Candidate] = []
    order: list[Candidate] = []  # what was asked for, by its last mention
    for word in words:
        name = word.name.removeprefix("no:")
        if word.name.startswith("no:"):
            hit = [c for c in (*installed, *others) if c.is_blocked_by(name)]
            for candidate in hit:
                candidate.blocked, candidate.asked = word, None
            if not hit:
                hint = suggestion(name, [c.name for c in installed])
                found.warnings.append(f"{word} blocks nothing.{hint}")
            continue
        hit = [c for c in (*installed, *others) if c.is_called(name)]
        if not hit:
            hit = [Candidate.from_outside(name)]
            others += hit
        # of two with one name, it means the one that is not blocked
        for candidate in [c for c in hit if not c.blocked] or hit:
            candidate.blocked, candidate.asked = None, word
            order = [c for c in order if c is not candidate]
            order.append(candidate)
    for candidate in installed:
        if candidate.name == "name_of_plugin":
            found.warnings.append(
                f"the entry point of {candidate.package} is called 'name_of_plugin', the"
                " placeholder of a tutorial; give it a name of its own"
            )
        if candidate.blocked:
            found.blocked.append(candidate)
        elif not candidate.asked:
            (found.wanted if autoload else found.unnamed).append(candidate)
    found.wanted += [candidate for candidate in order if candidate.asked]
    return found


def _installed() -> list[Candidate]:
    """The built-ins by name, then the others by name."""
    built_in = metadata.distribution(GROUP).entry_points.select(group=GROUP)
    if not built_in:
        raise metadata.PackageNotFoundError(GROUP)
    names = _Names()
    others = (
        point
        for point in metadata.entry_points(group=GROUP)
        if _normal(names.of(point)[0] or "") != GROUP
    )
    ordered = (*sorted(built_in, key=lambda p: p.name), *sorted(others, key=lambda p: p.name))
    return [Candidate.installed_as(point, names) for point in ordered]


def missing(candidate: Candidate, known: Iterable[Candidate]) -> str:
    """The message for a plugin that was asked for and does not exist."""
    known = list(known)
    built_in = sorted(c.name for c in known if c.built_in)
    others = sorted(c.name for c in known if c.entry_point and not c.built_in)
    head = f"no plugin '{candidate.name}' (asked for by {candidate.asked})."
    if candidate.path:
        return f"{head}\n  There is no file {candidate.path}."
    if "/" in candidate.name:
        return f"{head}\n  A path ends in .py."
    name = {c.distribution: c.name for c in known}.get(candidate.name, candidate.name)
    return (
        f"{head}{suggestion(name, [*built_in, *others])}\n"
        f"  Not a built-in ({', '.join(built_in)}), not an installed entry point\n"
        f"  ({', '.join(others) or 'there are none'}), and no module of that name in"
        f" {Path.cwd()} or on the Python path."
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'statsd'?`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _value(point: metadata.EntryPoint) -> str:
    """`package.module:object`, without blanks and extras; only the module if that is the plugin."""
    return f"{point.module}:{point.attr}" if point.attr else point.module


def _normal(distribution: str | None) -> str:
    return re.sub(r"[-_.]+", "-", distribution or "").lower()
