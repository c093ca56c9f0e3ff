"""From a registration to a definition, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from resqued.cron import enqueue_options, schedules
from resqued.cron.definition import Definition
from resqued.cron.functions import Reference, refer
from resqued.cron.misfire import Misfire
from resqued.cron.registrations import Registration
from resqued.plugins.errors import describe, short_path
from resqued.printable import is_printable
from resqued.shares import check_name as check_queue

_LONGEST_NAME: Final = 200  # characters

_T = TypeVar("_T")


@dataclass(frozen=True)
class Surroundings:
    """What a registration is checked with. zone: called where a job names none; raises ValueError.
    serializer: RQ's, that jobs are written with. now: Unix seconds."""

    zone: Callable[[], str]
    serializer: Any
    now: float


def define(registration: Registration, around: Surroundings) -> tuple[Definition | None, list[str]]:
    """The definition, or None and what is wrong, each with place, job and remedy."""
    reader = _Reader(registration, around)
    definition = reader.definition()
    return (None, reader.told()) if reader.problems else (definition, [])


class _Reader:
    """Reads one registration. `problems` are in the order of the arguments."""

    def __init__(self, registration: Registration, around: Surroundings) -> None:
        self._values = registration.arguments
        self._of_rq = registration.of_rq
        self._around = around
        self._place = place_of(registration)
        self._name = ""
        self.problems: list[str] = []

    def told(self) -> list[str]:
        job = f"cron job {self._name!r}" if self._name else "a cron job"
        where = f"{self._place}: " if self._place else ""
        return [f"{where}{job}: {problem}" for problem in self.problems]

    def definition(self) -> Definition | None:
        """None if there are problems."""
        get = self._values.get
        self._name = self._try(self._given_name) or ""
        reference = self._try(lambda: refer(self._values["func"])) or Reference("")
        self._name = self._name or (self._rq_name() if self._of_rq else reference.label)
        queue = self._try(lambda: _queue(get("queue_name")))
        args = self._try(lambda: _args(get("args"))) or ()
        kwargs = self._try(lambda: _kwargs(get("kwargs"))) or {}
        interval, cron = self._read_schedule()
        zone = self._try(lambda: self._read_zone(cron))
        misfire = self._try(lambda: schedules.misfire(get("misfire", Misfire.ONCE)))
        overlap = self._try(lambda: schedules.overlap(get("overlap", "allow")))
        enabled = self._try(lambda: _switch("enabled", get("enabled", True)))
        options = enqueue_options.read(self._values, self.problems)
        grace, jitter = self._read_spans(interval, cron, zone)
        if not self.problems:
            self._try(lambda: self._check_written(reference, args, kwargs, options))
        if self.problems:
            return None
        assert queue is not None and zone is not None and misfire is not None
        return Definition(
            name=self._name,
            function=reference.name,
            args=args,
            kwargs=kwargs,
            queue=queue,
            interval=interval,
            cron=cron,
            timezone=zone,
            misfire=misfire,
            grace=grace,
            overlap=bool(overlap),
            jitter=jitter,
            enabled=bool(enabled),
            options=options,
            of_rq=self._of_rq,
            instance=reference.instance,
            place=self._place,
        )

    def _try(self, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except ValueError as error:
            self.problems.append(str(error))
            return None

    def _given_name(self) -> str:
        given = self._values.get("name")
        if given is None:
            return ""
        if not isinstance(given, str):
            raise ValueError(f"name={given!r} is not text; put it in quotes")
        if not is_printable(given) or given != given.strip():
            raise ValueError(
                f"name={given!r} has control characters, or blanks at an end; take them away"
            )
        if len(given) > _LONGEST_NAME:
            raise ValueError(f"name has {len(given)} characters; at most {_LONGEST_NAME}")
        return given

    def _rq_name(self) -> str:
        """As RQ names it, so that the history of its jobs stays where it is."""
        func = self._values["func"]
        return f"{func.__module__}.{getattr(func, '__name__', '')}"  # its `register` wants both

    def _read_schedule(self) -> tuple[float | None, str | None]:
        interval, cron = self._values.get("interval"), self._values.get("cron")
        if self._of_rq:  # there 0 and '' mean nothing
            interval, cron = interval or None, cron or None
        if interval is not None and cron is not None:
            self.problems.append(f"it has interval={interval!r} and cron={cron!r}; take one away")
        elif interval is not None:
            return self._try(lambda: schedules.seconds("interval", interval, 1.0)), None
        elif cron is not None:
            return None, self._try(lambda: schedules.expression(cron, self._around.now))
        else:
            self.problems.append("it has no schedule; give interval=SECONDS or cron='0 3 * * *'")
        return None, None

    def _read_zone(self, cron: str | None) -> str:
        given = self._values.get("timezone", "")
        if given is not None and given != "":
            return schedules.zone(given)
        return "UTC" if cron is None else self._around.zone()

    def _read_spans(
        self, interval: float | None, cron: str | None, zone: str | None
    ) -> tuple[float, float]:
        """Grace and jitter."""
        period = interval
        if cron is not None:
            period = schedules.cron_period(cron)
        given, jitter = self._values.get("grace"), self._values.get("jitter", 0.0)
        grace = schedules.usual_grace(period or 0.0)
        if given is not None:
            grace = self._try(lambda: schedules.seconds("grace", given, 0.0)) or 0.0
        put_off = self._try(lambda: schedules.seconds("jitter", jitter, 0.0)) or 0.0
        if put_off and cron is not None and zone is not None:
            period = schedules.shortest_period(cron, zone, self._around.now)
        if period is not None and put_off >= period:
            self.problems.append(
                f"jitter={jitter!r} is not below the shortest time between two ticks, {period:g} s"
            )
        return grace, put_off

    def _check_written(
        self,
        reference: Reference,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        """Raises ValueError for what the serializer does not take."""
        serializer = self._around.serializer
        written = {
            "args and kwargs": (reference.name, reference.instance, args, dict(kwargs)),
            "meta": options.get("meta", {}),
        }
        for what, value in written.items():
            try:
                serializer.loads(serializer.dumps(value))
            except Exception as error:
                raise ValueError(
                    f"{what} cannot be written with the serializer: {describe(error)}; give plain"
                    " values, and have the job look up the rest"
                ) from error


def place_of(registration: Registration) -> str:
    """`myapp/cron.py:12`; empty if it is not known."""
    if not registration.file:
        return ""
    return f"{short_path(registration.file)}:{registration.line}"


def _queue(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"queue_name={value!r} is not text; put it in quotes")
    return check_queue(value)


def _args(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, tuple | list):
        raise ValueError(f"args={value!r} is not a tuple; write ({value!r},)")
    return tuple(value)


def _kwargs(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"kwargs={value!r} is not a dict with names")
    return dict(value)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is neither True nor False")
    return value
