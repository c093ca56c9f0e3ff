"""For tests of plugins with duties: what their hook gets, and what their functions get."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resqued.config import Config
from resqued.duties.registrations import LIMIT, Registrations
from resqued.duties.view import DutyView

if TYPE_CHECKING:
    from resqued.duties.definition import DutyDefinition


class FakeDuties:
    """`duties` of the hook of this name: keeps what is added."""

    def __init__(self) -> None:
        self._registrations = Registrations()

    @property
    def added(self) -> dict[str, DutyDefinition]:
        """By name, with the fields that `add` was given."""
        return {each.name: each for each in self._registrations.definitions}

    def add(
        self,
        name: str,
        function: Callable[[Any], float | None],
        *,
        every: float,
        once: str = "arbiter",
        limit: float = LIMIT,
    ) -> None:
        """Raises ValueError for what would refuse a start."""
        adder = self._registrations.handed_to("test")
        adder.add(name, function, every=every, once=once, limit=limit)
        for problem in self._registrations.problems:
            raise ValueError(problem.text)


def make_duty(**fields: Any) -> DutyView:
    """What the function of a duty gets. Give it a `connection` if it uses one, and the `token` of a
    keeper if it writes with `fenced`."""
    defaults = {
        "name": "test",
        "config": Config(),
        "arbiter": "test.arbiter",
        "token": 0,
        "connection": None,
    }
    return DutyView(**{**defaults, **fields})
