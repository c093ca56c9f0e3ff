"""Shorten tracebacks for the log: frames of resqued, RQ and importlib tell users nothing.

As text, since the traceback of a job that ran in a child is all that its worker has. What is stored
with the job keeps all frames, as RQ has them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

_FRAME: Final = re.compile(r'^(?:[ |+-]*)  File "(?P<path>[^"\n]*)", line \d+')
_HEADING: Final = "Traceback (most recent call last)"
_LONGEST: Final = 500  # characters of a summary
_OWN: Final = str(Path(__file__).resolve().parents[1]) + "/"


def _is_internal(path: str) -> bool:
    if path.startswith(("<frozen importlib", _OWN)) or "/importlib/" in path:
        return True
    rqs = sys.modules.get("rq")
    folder = getattr(rqs, "__path__", None)
    return folder is not None and any(path.startswith(f"{each}/") for each in folder)


def shorten(text: str, *, whole: bool = False) -> str:
    """The formatted traceback without those frames. whole: all of it if it has no others, because
    the error is in resqued or RQ."""
    kept: list[str] = []
    skips = any_left = False
    for line in text.split("\n"):
        found = _FRAME.match(line)
        if found is not None:
            skips = _is_internal(found["path"])
            any_left = any_left or not skips
        elif skips and not _belongs_to_frame(line):
            skips = False
        if not skips:
            kept.append(line)
    if any_left:
        return "\n".join(kept)
    return text if whole else _without_frames(kept)


def _without_frames(lines: list[str]) -> str:
    """What is below the last heading, if that is more than the one line that the log has anyway."""
    heads = [at for at, line in enumerate(lines) if line.startswith(_HEADING)]
    rest = "\n".join(lines[heads[-1] + 1 :] if heads else lines).strip()
    return rest if "\n" in rest else ""


def _belongs_to_frame(line: str) -> bool:
    """A source line, or the marks below it; repeats (`[Previous line repeated 9 more times]`)."""
    return line.startswith(("    ", "  [Previous line repeated"))


def summary(text: str) -> tuple[str, bool]:
    """`ValueError: no such user`, from a formatted traceback, or the first line of another text;
    and whether it was a traceback."""
    lines = text.strip("\n").split("\n")
    last = max((at for at, line in enumerate(lines) if _FRAME.match(line)), default=None)
    if last is None:
        is_traceback = lines[0].startswith(_HEADING)
        return (lines[1] if is_traceback and len(lines) > 1 else lines[0])[:_LONGEST], is_traceback
    found = next((line for line in lines[last + 1 :] if not _belongs_to_frame(line)), "")
    return found.strip()[:_LONGEST], True
