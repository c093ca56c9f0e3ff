"""Which plugins there are, which of them are wanted, and importing one of them.

Nothing here registers anything, and what is blocked is never imported.
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
from dataclasses import dataclass, field, replace
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
    """Something that can be loaded as a plugin, and what has been said about it."""

    name: str
    entry_point: metadata.EntryPoint | None = None
    file: Path | None = None
    asked: Asked | None = None
    blocked: Asked | None = None
    distribution: str | None = None
    version: str | None = None

    @classmethod
    def installed_as(cls, point: metadata.EntryPoint) -> Self:
        """With what its distribution says now: the files may go."""
        dist = point.dist
        name, version = (dist.name, dist.version) if dist else (None, None)
        return cls(point.name, point, distribution=name, version=version)

    @property
    def built_in(self) -> bool:
        """By whose it is, never by its name."""
        return _normal(self.distribution) == GROUP

    @property
    def origin(self) -> str:
        """`built in`, `entry point`, or who asked for it."""
        if self.built_in:
            return "built in"
        return str(self.asked) if self.asked else "entry point"

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
        """Import it. Raises whatever that raises, SystemExit too."""
        if self.entry_point:
            return self.entry_point.load()
        put_last(str(Path.cwd()))
        self._check_owner()
        if self.file:
            return import_file(self.file)
        if not all(part.isidentifier() for part in self.name.split(".")):
            raise ModuleNotFoundError(f"{self.name!r} is not a module's name", name=self.name)
        return importlib.import_module(self.name)

    def _check_owner(self) -> None:
        """Of a file that is named, and of a module in the working directory. Raises Untrusted."""
        files = [self.file] if self.file else list(_here(self.name))
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                check_writers(str(file), file.stat(), "run it")

    def is_called(self, name: str) -> bool:
        """Whether `-p NAME` means this: its own name, its module, or its file."""
        if self.entry_point:
            return name in (self.name, self.entry_point.module)
        return name == self.name or (self.file is not None and Path(name).resolve() == self.file)

    def is_blocked_by(self, name: str) -> bool:
        """Whether `-p no:NAME` means this: as above, or the distribution."""
        return self.is_called(name) or (_normal(self.distribution) == _normal(name))


@dataclass
class Candidates:
    """All of them, in the order in which they are registered: called last to called first."""

    installed: list[Candidate] = field(default_factory=list)
    wanted: list[Candidate] = field(default_factory=list)
    blocked: list[Candidate] = field(default_factory=list)
    unnamed: list[Candidate] = field(default_factory=list)  # installed; autoload is off
    warnings: list[str] = field(default_factory=list)


def find(names: Sequence[Asked], *, autoload: bool, known: Sequence[Candidate] = ()) -> Candidates:
    """Weigh what is installed against what was said, word by word; the last word wins.

    known: what was installed when this process began. A deployment may have deleted it under us,
    and then the answer is that. Raises PackageNotFoundError when resqued itself is not installed.
    """
    try:
        installed = _installed()
    except metadata.PackageNotFoundError:
        if not known:
            raise
        installed = [replace(candidate, asked=None, blocked=None) for candidate in known]
    found = Candidates(installed)
    others: list[Candidate] = []
    order: list[Candidate] = []  # what was asked for, by its last mention
    for word in names:
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
            hit = [_from_outside(name)]
            others += hit
        # of two with one name, it means the one that nobody has blocked
        for candidate in [c for c in hit if not c.blocked] or hit:
            candidate.blocked, candidate.asked = None, word
            if candidate in order:
                order.remove(candidate)
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
    ours = metadata.distribution(GROUP).entry_points.select(group=GROUP)
    if not ours:
        raise metadata.PackageNotFoundError(GROUP)
    theirs = [
        point
        for point in metadata.entry_points(group=GROUP)
        if not point.dist or _normal(point.dist.name) != GROUP
    ]
    return [
        *(Candidate.installed_as(point) for point in sorted(ours, key=lambda p: p.name)),
        *(Candidate.installed_as(point) for point in sorted(theirs, key=lambda p: p.name)),
    ]


def _from_outside(name: str) -> Candidate:
    if name.endswith(".py"):
        path = Path(name).resolve()
        return Candidate(path.stem, file=path)
    return Candidate(name)


def _here(name: str) -> Iterator[Path]:
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


def is_missing(candidate: Candidate, error: BaseException) -> bool:
    """Whether `error` says that there is no such plugin, rather than that it is broken."""
    if candidate.entry_point:
        return False
    if candidate.file:
        return isinstance(error, FileNotFoundError) and error.args == (candidate.file,)
    return (
        isinstance(error, ModuleNotFoundError)
        and error.name is not None
        and f"{candidate.name}.".startswith(f"{error.name}.")
    )


def missing(candidate: Candidate, known: Iterable[Candidate]) -> str:
    """The message for a plugin that was asked for and is nowhere."""
    known = list(known)
    built_in = sorted(c.name for c in known if c.built_in)
    others = sorted(c.name for c in known if c.entry_point and not c.built_in)
    head = f"no plugin '{candidate.name}' (asked for by {candidate.asked})."
    if candidate.file:
        return f"{head}\n  There is no file {candidate.file}."
    if "/" in candidate.name:
        return f"{head}\n  A path ends in .py."
    by_distribution = {c.distribution: c.name for c in known if c.distribution}
    hint = (
        f" Did you mean '{by_distribution[candidate.name]}'?"
        if candidate.name in by_distribution
        else suggestion(candidate.name, [*built_in, *others])
    )
    return (
        f"{head}{hint}\n"
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
    ours = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(ours):
            return f"{short_path(frame.filename)}:{frame.lineno}", frame.line or ""
    return "", ""


def _normal(distribution: str | None) -> str:
    return re.sub(r"[-_.]+", "-", distribution or "").lower()
