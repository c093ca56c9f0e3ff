"""Which plugins there are, which of them are wanted, and the import of one of them.

Nothing here registers anything, and what is blocked is not imported.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final, Self

from resqued.namesakes import put_last
from resqued.ownership import check_writers
from resqued.plugins.errors import short_path

GROUP: Final = "resqued"
"""The entry-point group, and the distribution whose entry points are the built-ins."""


@dataclass(frozen=True)
class Asked:
    """`NAME` or `no:NAME`, and where it was written: -p, RESQUED_PLUGINS or a file's name."""

    name: str
    where: str = "-p"

    def __str__(self) -> str:
        return f"-p {self.name}" if self.where == "-p" else f"{self.name} in {self.where}"


@dataclass
class Candidate:
    """Something that can be loaded as a plugin, and what became of it."""

    name: str
    entry_point: metadata.EntryPoint | None = None
    path: Path | None = None  # of a file that is named
    distribution: str | None = None
    version: str | None = None
    asked: Asked | None = None
    blocked: Asked | None = None
    status: str = ""  # one of `registry`
    file: str | None = None  # absolute; of an entry point known when it is loaded
    hooks: tuple[str, ...] = ()  # in life-cycle order
    error: str = ""  # why it is not loaded
    traceback: str = ""

    @classmethod
    def installed_as(cls, point: metadata.EntryPoint) -> Self:
        """With what its distribution says now: its files may be deleted later."""
        dist = point.dist
        name, version = (dist.name, dist.version) if dist else (None, None)
        return cls(point.name, point, distribution=name, version=version)

    @classmethod
    def from_outside(cls, name: str) -> Self:
        """A file, or a module that is not an entry point."""
        if name.endswith(".py"):
            path = Path(name).resolve()
            return cls(path.stem, path=path, file=str(path))
        return cls(name)

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
        """Import it. Raises whatever that raises, SystemExit too; Untrusted for a file or module
        of the working directory that others could have written."""
        if self.entry_point:
            return self.entry_point.load()
        put_last(str(Path.cwd()))
        for file in [self.path] if self.path else _found_here(self.name):
            with contextlib.suppress(FileNotFoundError):
                check_writers(str(file), file.stat(), "run it")
        if self.path:
            return import_file(self.path)
        if not all(part.isidentifier() for part in self.name.split(".")):
            raise ModuleNotFoundError(f"{self.name!r} is not a module's name", name=self.name)
        return importlib.import_module(self.name)

    def is_called(self, name: str) -> bool:
        """Whether `-p NAME` means this: its own name, its module, or its file."""
        if self.entry_point:
            return name in (self.name, self.entry_point.module)
        return name == self.name or (self.path is not None and Path(name).resolve() == self.path)

    def is_blocked_by(self, name: str) -> bool:
        """Whether `-p no:NAME` means this: as above, or the distribution."""
        return self.is_called(name) or _normal(self.distribution) == _normal(name)

    def is_missing(self, error: BaseException) -> bool:
        """Whether `error` says that there is no such plugin, rather than that it is broken."""
        if self.path:
            return isinstance(error, FileNotFoundError) and error.args == (self.path,)
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        return (
            not self.entry_point
            and missing is not None
            and f"{self.name}.".startswith(f"{missing}.")
        )


@dataclass
class Candidates:
    """All of them, in the order in which they are registered: called last to called first."""

    installed: list[Candidate] = field(default_factory=list)
    wanted: list[Candidate] = field(default_factory=list)
    blocked: list[Candidate] = field(default_factory=list)
    unnamed: list[Candidate] = field(default_factory=list)  # installed; autoload is off
    warnings: list[str] = field(default_factory=list)


def find(words: Sequence[Asked], *, autoload: bool, known: Sequence[Candidate] = ()) -> Candidates:
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
            Candidate(c.name, c.entry_point, distribution=c.distribution, version=c.version)
            for c in known
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
    others = (
        point
        for point in metadata.entry_points(group=GROUP)
        if not point.dist or _normal(point.dist.name) != GROUP
    )
    ordered = (*sorted(built_in, key=lambda p: p.name), *sorted(others, key=lambda p: p.name))
    return [Candidate.installed_as(point) for point in ordered]


def _found_here(name: str) -> Iterator[Path]:
    """The files of a module that would be imported from the working directory."""
    top, *rest = name.split(".")
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(top)
        origin = Path(spec.origin) if spec and spec.has_location and spec.origin else None
        if origin is None or not origin.is_relative_to(Path.cwd()):
            return
        yield origin
        if rest:
            inner = origin.parent.joinpath(*rest)
            yield inner.with_suffix(".py")
            yield inner / "__init__.py"


def import_file(path: Path) -> ModuleType:
    """Import a plugin's file under a name that is its own, so that it hides no other module.

    A second call gives the same module. Raises FileNotFoundError and whatever the file raises.
    """
    name = re.sub(r"\W", "_", str(path))
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "it ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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


def import_place(error: BaseException) -> tuple[str, str]:
    """Where an import failed, as (`package/file.py:3`, the line's text); empty if not known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short_path(error.filename)}:{error.lineno}", (error.text or "").strip()
    machinery = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(machinery):
            return f"{short_path(frame.filename)}:{frame.lineno}", frame.line or ""
    return "", ""


def _normal(distribution: str | None) -> str:
    return re.sub(r"[-_.]+", "-", distribution or "").lower()
