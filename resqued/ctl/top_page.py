"""The screen of `resquedctl top`: from a status to lines that fit. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from resqued.scoreboard import TRIAL
from resqued.status.page import head
from resqued.status.reader import ArbiterStatus, QueueLine, WorkerLine
from resqued.status.tables import trouble
from resqued.status.text import (
    Line,
    broken,
    clipped,
    cut,
    function_in,
    pad,
    plain,
    seconds,
    width_of,
)

TREND: Final = 30
"""Seconds over which the trend of a queue is told."""

SORTS: Final[dict[str, Callable[[WorkerLine], Any]]] = {
    "number": lambda line: line.number,
    "age": lambda line: -(line.job_age or 0.0),
    "queue": lambda line: (line.queue or "~", line.number),
    "function": lambda line: (line.function or "~", line.number),
    "done": lambda line: -line.done,
    "failed": lambda line: (-line.failed, line.number),
}
"""What workers can be sorted by, in the order in which the key `s` goes through it."""

_KEYS: Final = "q quit  s sort  i idle  arrows choose  enter why and stacks"
_DETAIL_KEYS: Final = "q back  arrows scroll"
_FEWEST_EVENTS, _MOST_EVENTS = 2, 8


@dataclass
class View:
    """What the keys have chosen. chosen: the number of a worker."""

    sort: str = "number"
    shows_idle: bool = False
    chosen: int | None = None
    detail: list[str] | None = None
    scrolled: int = 0


@dataclass
class QueueTrends:
    """How many jobs have waited in each queue, look by look."""

    waiting: dict[str, deque[int]] = field(default_factory=dict)

    def note(self, queues: Sequence[QueueLine]) -> None:
        """Once a second."""
        names = {queue.name for queue in queues}
        self.waiting = {name: kept for name, kept in self.waiting.items() if name in names}
        for queue in queues:
            if queue.waiting is not None:
                kept = self.waiting.setdefault(queue.name, deque(maxlen=TREND + 1))
                kept.append(queue.waiting)

    def trend(self, name: str) -> int | None:
        """How many more wait than TREND seconds ago, or since the first look."""
        kept = self.waiting.get(name)
        return kept[-1] - kept[0] if kept and len(kept) > 1 else None


def listed(status: ArbiterStatus, view: View) -> list[WorkerLine]:
    """The workers that are shown, in their order."""
    lines = [line for line in status.workers if view.shows_idle or line.state != "idle"]
    return sorted(lines, key=SORTS[view.sort])


def screen(
    status: ArbiterStatus,
    trends: QueueTrends,
    view: View,
    events: Sequence[str],
    width: int,
    height: int,
    *,
    blocks: bool = True,
) -> list[Line]:
    """Exactly `height` lines of at most `width` cells. events: the last ones, as text. blocks:
    whether the terminal has block elements."""
    if view.detail is not None:
        return _fill(_detail(view, width, height), [[(_DETAIL_KEYS, "dim")]], width, height)
    top = [*head(status, width), _bar(status, width, blocks=blocks)]
    bottom: list[Line] = []
    if height >= 16:
        shown = list(events)[-max(_FEWEST_EVENTS, min(_MOST_EVENTS, height // 6)) :]
        bottom += [[("events", "heading")]] if shown else []
        bottom += [
            [(plain(event), "dim" if " WARNING " not in event else "odd")] for event in shown
        ]
    bottom.append([(_KEYS, "dim")])
    room = max(0, height - len(top) - len(bottom))
    queues = _queue_rows(status, trends, width)
    workers = listed(status, view)
    for_queues = min(len(queues) + 1, max(room // 2, room - len(workers) - 2)) if queues else 0
    middle: list[Line] = []
    if for_queues >= 2:
        middle += _queue_part(queues, width, for_queues)
    left = room - len(middle)
    if left >= 2:
        middle += _worker_part(workers, view, width, left)
    return _fill([*top, *middle], bottom, width, height)


def _fill(lines: list[Line], bottom: list[Line], width: int, height: int) -> list[Line]:
    lines = lines[: max(0, height - len(bottom))]
    blank: list[Line] = [[] for _ in range(height - len(lines) - len(bottom))]
    return [clipped(line, width) for line in [*lines, *blank, *bottom]][-height:]


def _detail(view: View, width: int, height: int) -> list[Line]:
    """A window of the text; what is too long goes on in the next line."""
    text = [piece for line in view.detail or [] for piece in broken(plain(line), width, "")]
    view.scrolled = max(0, min(view.scrolled, len(text) - height + 1))
    return [[(line, "")] for line in text[view.scrolled : view.scrolled + height - 1]]


def _bar(status: ArbiterStatus, width: int, *, blocks: bool) -> Line:
    """Busy, starting and idle workers as parts of a line."""
    states = [line.state for line in status.workers if line.number != TRIAL]
    total = max(len(states), 1)
    busy, idle = states.count("busy"), states.count("idle")
    room = max(4, min(width, 100) - 2)
    cells = [_share(busy, total, room), _share(len(states) - busy - idle, total, room)]
    signs = "█▒░" if blocks else "#~."
    return [
        ("[", ""),
        (signs[0] * cells[0], "good"),
        (signs[1] * cells[1], "odd"),
        (signs[2] * (room - sum(cells)), "dim"),
        ("]", ""),
    ]


def _share(count: int, total: int, room: int) -> int:
    """Cells for a part; one that is there is seen."""
    return max(1, room * count // total) if count else 0


_QUEUES: Final = ("QUEUE", "WAITING", "OLDEST", "WORKERS", "BUSY", "/MIN", "FAILED", "TREND")


def _queue_rows(
    status: ArbiterStatus, trends: QueueTrends, width: int
) -> list[tuple[tuple[str, ...], QueueLine]]:
    """The queues in which something is wrong first, then those in which most waits."""
    queues = sorted(
        status.queues,
        key=lambda queue: (_rank(queue), -(queue.waiting or 0), -queue.busy, queue.name),
    )
    rows: list[tuple[tuple[str, ...], QueueLine]] = []
    for queue in queues:
        trend = trends.trend(queue.name)
        rows.append(
            (
                (
                    plain(queue.name),
                    _known(queue.waiting),
                    "" if queue.oldest is None else seconds(queue.oldest),
                    str(queue.workers),
                    str(queue.busy),
                    "" if queue.per_minute is None else f"{queue.per_minute:.0f}",
                    _known(queue.failed),
                    "" if trend is None else f"{trend:+d}" if trend else "=",
                ),
                queue,
            )
        )
    return rows


def _rank(queue: QueueLine) -> int:
    why = trouble(queue)
    return 2 if why is None else 0 if why[1] == "bad" else 1


def _known(value: int | None) -> str:
    return "" if value is None else str(value)


def _queue_part(
    rows: list[tuple[tuple[str, ...], QueueLine]], width: int, height: int
) -> list[Line]:
    """The title and as many rows as there is room for; the last one counts the others."""
    shown = rows if len(rows) < height else rows[: height - 2]
    widths = [
        max(width_of(title), *(len(cells[n]) for cells, _ in shown), 0)
        for n, title in enumerate(_QUEUES)
    ]
    columns = [n for n in range(1, len(_QUEUES))]
    reasons = [why[0] for _, queue in shown if (why := trouble(queue)) is not None]
    reserved = max((len(reason) + 2 for reason in reasons), default=0)
    while len(columns) > 2 and width - reserved - sum(widths[n] + 2 for n in columns) < 12:
        columns.pop(-2 if len(columns) > 3 else -1)
    named = max((width_of(cells[0]) for cells, _ in shown), default=0)
    taken = reserved + sum(widths[n] + 2 for n in columns)
    room = max(8, min(max(named, 16), width - taken))

    def row(cells: Sequence[str]) -> str:
        text = pad(cut(cells[0], room), room)
        return text + "".join(f"  {cells[n].rjust(widths[n])}" for n in columns)

    lines: list[Line] = [[(row(_QUEUES), "heading")]]
    for cells, queue in shown:
        why = trouble(queue)
        line: Line = [(row(cells), "" if why is None else why[1])]
        if why is not None:
            line.append((f"  {why[0]}", why[1]))
        lines.append(line)
    if len(shown) < len(rows):
        lines.append([(f"  and {len(rows) - len(shown)} more", "dim")])
    return lines


def _worker_part(workers: list[WorkerLine], view: View, width: int, height: int) -> list[Line]:
    """The title and a window of rows around the chosen one."""
    if not workers:
        return [[("no worker is busy", "dim")]]
    numbers = [line.number for line in workers]
    if view.chosen not in numbers:
        view.chosen = numbers[0]
    at = numbers.index(view.chosen)
    room = height - 1
    first = max(0, min(at - room // 2, len(workers) - room))
    shown = workers[first : first + room]
    title = f"WORKER by {view.sort}"
    if len(shown) < len(workers):
        title += f", {first + 1}-{first + len(shown)} of {len(workers)}"
    lines: list[Line] = [[(title, "heading")]]
    cells = [_worker_cells(line) for line in shown]
    widths = [max(width_of(row[n]) for row in cells) for n in range(6)]
    queue = min(widths[4], max(8, width // 6))
    whole = sum(widths[n] + 2 for n in (0, 1, 3, 5)) + queue
    job = 38 if width - whole - 4 >= 38 + 14 else 0
    room = max(6, min(widths[2], width - whole - job - 4))
    for line, row in zip(shown, cells, strict=True):
        number, state, function, age, name, done = row
        text = f"{number.rjust(widths[0])}  {state.ljust(widths[1])}  "
        text += f"{pad(function_in(function, room), room)}  "
        text += pad(cut(plain(line.job_id or ""), 36), 38) if job else ""
        text += f"{age.rjust(widths[3])}  {pad(cut(name, queue), queue)}  {done.rjust(widths[5])}"
        lines.append([(text, "chosen" if line.number == view.chosen else _colour(line))])
    return lines


def _worker_cells(line: WorkerLine) -> tuple[str, ...]:
    age = "" if line.job_age is None else seconds(line.job_age)
    if line.timeout is not None and age:
        age = f"{age}/{seconds(line.timeout)}"
    failed = f" ({line.failed} failed)" if line.failed else ""
    return (
        "trial" if line.number == TRIAL else str(line.number),
        line.state,
        plain(line.function or ""),
        age,
        plain(line.queue or ""),
        f"{line.done} done{failed}",
    )


def _colour(line: WorkerLine) -> str:
    if line.timeout is not None and line.job_age is not None and line.job_age > line.timeout:
        return "bad"
    return {"busy": "", "idle": "dim", "down": "bad"}.get(line.state, "odd")
