"""What `--cron MODULE|FILE` names: found as `rq cron` would, and imported.

A file that is a module on the path is imported as that module, so that a worker can import what it
defines.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from resqued.cron.functions import PRIVATE
from resqued.plugins.imports import import_file


class NotFound(ValueError):
    """There is no such module or file. The message has the remedy."""


def import_source(text: str) -> str:
    """Import a module by its dotted name, or a file by its path, unless it is imported already.

    Returns the module's name. A file needs no `.py`, as for `rq cron`; one that is not in the
    working directory is looked for on the path. Raises NotFound, and whatever its code raises.
    """
    if not text.strip():
        raise NotFound("it is empty; name a module, or a file that ends in .py")
    if "/" not in text and not text.endswith(".py"):
        return _import(text)
    file = _file(text)
    if file is None:
        raise NotFound(
            f"there is no file {text!r} in {os.getcwd()}, nor on the path"  # noqa: PTH109
            "; give its module's name, and --path DIR for its folder"
        )
    name = _module_of(file)
    return _import(name) if name is not None else _load(file)


def _import(name: str) -> str:
    if not all(name.split(".")):
        raise NotFound(
            f"{name!r} is no name of a module; name one as myapp.cron, or a file as ./cron.py"
        )
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # of another module, that this one imports
        raise NotFound(
            f"there is no module {error.name!r} on the path; --path DIR is where modules are looked"
            " for, and a file is named with its .py"
        ) from None
    return name


def _file(text: str) -> Path | None:
    folders = ["", *sys.path] if not Path(text).is_absolute() else [""]
    for folder in folders:
        for ending in ("", ".py"):
            path = Path(folder, text + ending)
            if path.is_file():
                return path.resolve()
    return None


def _module_of(file: Path) -> str | None:
    """The dotted name that an import finds this file under."""
    for entry in sys.path:
        try:
            parts = file.relative_to(Path(entry or ".").resolve()).with_suffix("").parts
        except ValueError:
            continue
        if parts[-1:] == ("__init__",):
            parts = parts[:-1]
        if not parts or any("." in part for part in parts):
            continue
        name = ".".join(parts)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin and Path(spec.origin).resolve() == file:
            return name
    return None


def _load(file: Path) -> str:
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:8]
    name = f"{PRIVATE}{file.stem.replace('.', '_')}_{digest}"
    if file.suffix != ".py":
        raise NotFound(f"{file} is not Python; its name has to end in .py")
    import_file(file, name)
    return name
