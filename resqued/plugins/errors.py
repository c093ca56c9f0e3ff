"""Describes errors of code that is not resqued's own, on one line, and where they came from."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

_LONGEST: Final = 500


class WrongAnswer(TypeError):
    """A hook has returned what it may not. The message says what, and what is wanted."""


def describe(error: BaseException) -> str:
    """`OSError: [Errno 113] No route to host`, on one line, cut when it is very long."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its __str__ is broken too
        text = "(it cannot be printed)"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} .."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def deed(error: BaseException) -> str:
    """What a hook has done: `raised OSError: no route`, or `returned True, but ...`."""
    return str(error) if isinstance(error, WrongAnswer) else f"raised {describe(error)}"


def place(error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """`file.py:22`: the innermost line of `function`'s own file that `error` came through.

    Without a function simply where it was raised.
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    if function is not None:
        file = _code_place(function)[0]
        frames = [frame for frame in frames if frame.filename == file]
        if not frames:
            return place_of(function)
    return f"{short_path(frames[-1].filename)}:{frames[-1].lineno}" if frames else "no line"


def place_of(function: Callable[..., Any]) -> str:
    """`file.py:3`, where a function is defined."""
    file, line = _code_place(function)
    return f"{short_path(file)}:{line}" if file else "no line"


def short_path(path: str) -> str:
    """A file as users know it: below the working directory, or below its place on the path."""
    try:
        here = os.getcwd()  # noqa: PTH109  # Path.cwd() is the same
    except OSError:
        here = ""  # it was removed meanwhile
    roots = [root.rstrip("/") + "/" for root in (here, *sys.path) if root]
    return path[max((len(root) for root in roots if path.startswith(root)), default=0) :]


def _code_place(function: Callable[..., Any]) -> tuple[str, int]:
    while inner := getattr(function, "__wrapped__", None) or _called_by(function):
        function = inner
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("", 0)


def _called_by(function: Callable[..., Any]) -> Any:
    return function.func if isinstance(function, functools.partial) else None
