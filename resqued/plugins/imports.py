"""The import of one plugin: a module, an object in a module, or a file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from resqued.namesakes import put_last
from resqued.ownership import check_writers
from resqued.plugins.errors import short_path


class NoSuchObject(Exception):
    """A module has no object of the name that was asked for. The message suggests one."""


def import_plugin(module: str, path: Path | None, attribute: str | None) -> object:
    """Import a module by its name or by its file, and take an object from it.

    attribute: `plugin`, `Metrics.instance`; None for the module itself. Raises whatever the
    import raises, SystemExit too; NoSuchObject; Untrusted for a file or module of the working
    directory that others could have written.
    """
    put_last(str(Path.cwd()))
    for file in [path] if path else _found_here(module):
        with contextlib.suppress(FileNotFoundError):
            check_writers(str(file), file.stat(), "run it")
    if path:
        loaded = import_file(path)
    elif all(part.isidentifier() for part in module.split(".")):
        loaded = importlib.import_module(module)
    else:
        raise ModuleNotFoundError(f"{module!r} is not a module's name", name=module)
    return loaded if attribute is None else _object_in(loaded, module, attribute)


def _object_in(module: ModuleType, name: str, attribute: str) -> object:
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [each for each in dir(found) if not each.startswith("_")]
            close = get_close_matches(part, known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            what = f"object {attribute!r}" if attribute else "object; write MODULE:OBJECT"
            raise NoSuchObject(f"module {name} has no {what}.{hint}") from None
    return found


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


def import_file(path: Path, name: str = "") -> ModuleType:
    """Import a file under a name that is its own, so that it hides no other module.

    name: that name; empty: made from the path. A second call gives the same module. Raises
    FileNotFoundError and whatever the file raises. The path ends in .py.
    """
    name = name or re.sub(r"\W", "_", str(path))
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


def import_place(error: BaseException) -> tuple[str, str]:
    """Where an import failed, as (`package/file.py:3`, the line's text); empty if not known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short_path(error.filename)}:{error.lineno}", (error.text or "").strip()
    own = str(Path(__file__).parent)
    machinery = (own, "<frozen importlib", str(Path(importlib.__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(machinery):
            return f"{short_path(frame.filename)}:{frame.lineno}", frame.line or ""
    return "", ""
