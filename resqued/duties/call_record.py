"""Memory that a duties process shares with its fork server: what it does, and until when.

The fork server looks there for a call that takes too long, and for when each duty is due when it
starts the process again.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Final

_NOTHING: Final = -1
_HEAD: Final = struct.Struct("@ddq")  # deadline, begin, number of the duty
_DUTY: Final = struct.Struct("@dq")  # when it is due, deaths


@dataclass(frozen=True)
class Doing:
    """What the process does. number: of the duty that is called; None: its own loop turns.

    deadline, began: seconds on the monotonic clock.
    """

    number: int | None
    deadline: float
    began: float


class CallRecord:
    """One for each fork server, for a fixed number of duties. A write may be seen half done by the
    other process, for microseconds."""

    def __init__(self, duties: int) -> None:
        self.duties: Final = duties
        self._page = mmap.mmap(-1, _HEAD.size + _DUTY.size * duties)
        self.note(None, 0.0, 0.0)

    def note(self, number: int | None, began: float, deadline: float) -> None:
        """What the process does from now on: the call of a duty by its number, or its loop."""
        number = _NOTHING if number is None else number
        self._page[: _HEAD.size] = _HEAD.pack(deadline, began, number)

    def read(self) -> Doing:
        deadline, began, number = _HEAD.unpack_from(self._page, 0)
        return Doing(number if 0 <= number < self.duties else None, deadline, began)

    def due(self, number: int) -> float:
        """When a duty is due, on the monotonic clock; 0 at first."""
        due: float = _DUTY.unpack_from(self._page, self._at(number))[0]
        return due

    def deaths(self, number: int) -> int:
        """How often in a row the process has died in a call of this duty."""
        deaths: int = _DUTY.unpack_from(self._page, self._at(number))[1]
        return deaths

    def set_due(self, number: int, due: float, *, deaths: int = 0) -> None:
        """When a duty is due; after a call, or after the process has died in one."""
        at = self._at(number)
        self._page[at : at + _DUTY.size] = _DUTY.pack(due, deaths)

    def _at(self, number: int) -> int:
        return _HEAD.size + _DUTY.size * number
