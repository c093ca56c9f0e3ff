"""Names of time zones: of this process's local time, and whether a name is known."""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_DAY: Final = 86400  # seconds

_DAYS: Final = 2 * 366  # looked at from now on, to compare local time with a zone

_OF_THE_HOST: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Names that are another zone on each host, or none."""

_LINK: Final = Path("/etc/localtime")
_FILE: Final = Path("/etc/timezone")


def check(name: str) -> str:
    """The name as it was given. Raises ValueError, with the remedy, for one that is not known."""
    if name in _OF_THE_HOST or name.startswith(("posix/", "right/")):
        raise ValueError(f"zone {name!r} is not the same everywhere; write Europe/Berlin, or UTC")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(name, available_timezones(), n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "write Europe/Berlin, or UTC"
        raise ValueError(f"zone {name!r} is not known here; {hint}") from None
    return name


def local(
    environ: Mapping[str, str] = os.environ, link: Path = _LINK, file: Path = _FILE
) -> str | None:
    """The name of the zone of local time: TZ, /etc/localtime if it is a link, /etc/timezone.

    A name from /etc counts if it agrees with local time. Without one it is UTC if local time
    always is; else None.
    """
    if "TZ" in environ:
        if name := _known(_below_zoneinfo(environ["TZ"].removeprefix(":") or "UTC")):
            return name
    else:
        for found in _named(link, file):
            if (name := _known(found)) and _agrees(name):
                return name
    return "UTC" if _agrees("UTC") else None


def changes(name: str, begin: float, end: float) -> Iterator[float]:
    """The moments between the two at which the zone gets another offset, to the second."""
    zone, last = ZoneInfo(name), int(begin)
    for moment in range(last + _DAY, int(end) + 1, _DAY):
        before = _offset(zone, last)
        if _offset(zone, moment) != before:
            seconds = range(last, moment + 1)
            yield float(
                last + bisect_left(seconds, True, key=lambda at: _offset(zone, at) != before)
            )
        last = moment


def _named(link: Path, file: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # a copy of a zone's file, or none at all
        yield _below_zoneinfo(os.fspath(link.readlink()))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        yield file.read_text().strip()


def _below_zoneinfo(path: str) -> str:
    return path.rpartition("/zoneinfo/")[2]


def _known(name: str) -> str | None:
    try:
        return check(name)
    except ValueError:
        return None


def _agrees(name: str) -> bool:
    """Whether local time is that of the zone, for some years."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    now = int(time.time())
    return all(
        _offset(zone, now + day * _DAY) == time.localtime(now + day * _DAY).tm_gmtoff
        for day in range(_DAYS)
    )


def _offset(zone: ZoneInfo, moment: int) -> float | None:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return None if offset is None else offset.total_seconds()
