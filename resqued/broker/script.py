"""The Lua scripts of this package, as package data."""

from __future__ import annotations

from importlib import resources


def read_script(*names: str) -> str:
    """The texts of the scripts of these names (`NAME.lua`), one after another.

    To be called at import: the files may be replaced, or deleted, while a process lives.
    """
    folder = resources.files(__package__)
    return "".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
