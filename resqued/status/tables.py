"""The tables of `resquedctl status`: queues, busy workers, all workers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from resqued.scoreboard import TRIAL
from resqued.status.reader import QueueLine, WorkerLine
from resqued.status.text import (
    Line,
    Span,
    broken,
    cut,
    function_in,
    pad,
    plain,
    seconds,
    width_of,
)

LATE: Final = 60.0
"""Seconds that the job at the head of a queue may wait before the queue needs a look."""

_SHORTEST: Final = 12
"""Cells that a function gets on the line of its worker; with fewer the id has a line of its own."""


def trouble(queue: QueueLine) -> Span | None:
    """Why a queue needs a look, and how bad that is; None if it does not."""
    if queue.unserved or (queue.waiting and queue.served == 0):
        return "no worker serves it", "bad"
    if queue.paused:
        return "paused", "odd"
    if queue.limit is not None and queue.waiting and (queue.started or 0) >= queue.limit:
        return f"at its limit {queue.started}/{queue.limit}", "odd"
    if queue.waiting and queue.oldest is not None and queue.oldest >= LATE:
        return "it waits long" if queue.busy else "no job of it runs here", "odd"
    return None


def queue_table(queues: Sequence[QueueLine], width: int) -> list[Line]:
    """A row for each: name, jobs that wait, age of the first, workers, what is wrong."""
    rows = []
    for queue in queues:
        oldest = "" if queue.oldest is None else f"oldest {seconds(queue.oldest)}"
        waiting = "" if queue.waiting is None else f"{queue.waiting} waiting"
        served = f"{queue.busy}/{queue.workers} busy" if queue.workers else ""
        rate = "" if queue.per_minute is None else f"{queue.per_minute:.0f}/min"
        rows.append((plain(queue.name), waiting, oldest, served, rate, trouble(queue)))
    widths = [max([width_of(row[column]) for row in rows], default=0) for column in range(1, 5)]  # type: ignore[arg-type]
    taken = sum(each + 2 for each in widths if each)
    named = min(max([width_of(row[0]) for row in rows], default=0), max(10, width - taken - 24))
    lines: list[Line] = []
    for name, *cells, why in rows:
        line: Line = [("  ", ""), (pad(cut(name, named), named), "")]
        for cell, each in zip(cells, widths, strict=True):
            if each:
                line.append((f"  {pad(str(cell), each, right=True)}", ""))
        if why is not None:
            line += [("  ", ""), (why[0], why[1])]
        lines += _fitted(line, width)
    return lines


def _fitted(line: Line, width: int) -> list[Line]:
    """A line on as many as it needs; the following ones are indented."""
    lines: list[Line] = [[]]
    used = 0
    for text, colour in line:
        if used + width_of(text) > width and used > 4:
            lines.append([("    ", "")])
            used, text = 4, text.strip()
        text = cut(text, width - used)
        lines[-1].append((text, colour))
        used += width_of(text)
    return lines


def busy_table(busy: Iterable[WorkerLine], width: int) -> list[Line]:
    """A row for each: number, function, id, queue, age of the job and its timeout.

    The function is cut to fit, the id never; where there is no room for it, it has its own line.
    """
    rows = [_busy_cells(line) for line in busy]
    numbers = max((len(row[0]) for row in rows), default=0)
    ages = max((len(row[4]) for row in rows), default=0)
    queues = min(max((width_of(row[3]) for row in rows), default=0), max(8, width // 5))
    usual = [width_of(row[2]) for row in rows if width_of(row[2]) <= 40]
    ids = max(usual, default=0)
    room = width - (2 + numbers) - (2 + ids) - (2 + queues) - (2 + ages) - 2
    is_narrow = room < _SHORTEST
    if is_narrow:
        room = max(4, room + 2 + ids)
    functions = min(room, max((width_of(row[1]) for row in rows), default=0))
    lines: list[Line] = []
    for row, line in zip(rows, busy, strict=True):
        number, function, job_id, queue, age = row
        apart = is_narrow or width_of(job_id) > ids
        cells: Line = [
            (f"  {number.rjust(numbers)}", ""),
            (f"  {pad(function_in(function, functions), functions)}", "bold"),
            ("" if is_narrow else f"  {pad('' if apart else job_id, ids)}", ""),
            (f"  {pad(cut(queue, queues), queues)}", ""),
            (f"  {age.rjust(ages)}", _age_colour(line)),
        ]
        lines.append(cells)
        if apart:
            lines += [[(piece, "dim")] for piece in broken(job_id, width, "    ")]
    return lines


def _busy_cells(line: WorkerLine) -> tuple[str, str, str, str, str]:
    age = "" if line.job_age is None else seconds(line.job_age)
    if line.timeout is not None and age:
        age = f"{age}/{seconds(line.timeout)}"
    job_id = plain(line.job_id or "") + (" (its first 255 bytes)" if line.id_is_cut else "")
    return _number(line), plain(line.function or "?"), job_id, plain(line.queue or ""), age


def _age_colour(line: WorkerLine) -> str:
    if line.timeout is None or line.job_age is None:
        return ""
    return "bad" if line.job_age > line.timeout else ""


def _number(line: WorkerLine) -> str:
    return "trial" if line.number == TRIAL else str(line.number)


_COLUMNS: Final = ("WORKER", "PID", "GEN", "STATE", "AGE", "DONE", "FAILED", "THREADS")


def worker_table(workers: Sequence[WorkerLine], width: int) -> list[Line]:
    """A row for each worker; what the last column has no room for is cut."""
    if not workers:
        return []
    shares = any(line.own_memory is not None for line in workers)
    titles = (*_COLUMNS, "MEMORY" if shares else "RESIDENT", "QUEUES")
    rows = [_worker_cells(line) for line in workers]
    widths = [max(len(row[n]) for row in [titles, *rows]) for n in range(len(titles) - 1)]
    lines: list[Line] = []
    for row in [titles, *rows]:
        text = "  ".join(
            cell.ljust(each) if title == "STATE" else cell.rjust(each)
            for cell, each, title in zip(row, widths, titles, strict=False)
        )
        text = f"{text}  {row[-1]}".rstrip()
        lines.append([(cut(text, width), "heading" if row is titles else "")])
    return lines


def _worker_cells(line: WorkerLine) -> tuple[str, ...]:
    memory = line.memory if line.own_memory is None else line.own_memory
    return (
        _number(line),
        str(line.pid or "-"),
        str(line.generation or "-"),
        line.state,
        "-" if line.age is None else seconds(line.age),
        str(line.done),
        str(line.failed),
        "-" if line.threads is None else str(line.threads),
        "-" if memory is None else f"{memory / 1e6:.0f} MB",
        ",".join(map(plain, line.queues)) or "-",
    )
