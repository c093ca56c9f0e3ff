"""`resqued --status`: print the scoreboard of a running arbiter.

It is read through /proc, without the arbiter, so it works even if the arbiter's loop hangs.
Runs in a command of its own.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from resqued.arbiter.publisher import expand
from resqued.command import arbiters
from resqued.command.chosen import NoArbiter, only_one, pid_of_file
from resqued.exits import ExitCode
from resqued.logs.redaction import redact
from resqued.plugins.hooks import silenced_because
from resqued.printable import printable
from resqued.scoreboard import TRIAL, Phase, Scoreboard

_LONGEST_JOB: Final = 60
_MANY: Final = 100
"""Beyond so many workers their shares of memory are not read: the kernel takes 2 ms for each."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATES: Final = {
    Phase.EMPTY: "starting",
    Phase.BOOTING: "booting",
    Phase.CONNECTING: "connecting",
    Phase.IDLE: "idle",
    Phase.LEAVING: "leaving",
    Phase.LEFT: "leaving",
}


@dataclass(frozen=True)
class WorkerLine:
    """One worker, as it is shown. Seconds and bytes; None where there is no value."""

    number: int
    name: str
    pid: int | None
    generation: int
    queues: list[str]
    state: str
    phase: str
    job_id: str | None
    function: str | None
    queue: str | None
    job_age: float | None
    age: float | None
    done: int
    failed: int
    threads: int | None  # that it has now, those of jobs and libraries included
    memory: int | None  # resident, what it shares with the others included
    own_memory: int | None  # its proportional share of it: these add up; None of many workers


def main(pid_path: str | None, *, as_json: bool = False, ready: bool = False) -> int:
    """Print the status of the arbiter whose pid file this is; returns the exit code.

    Without a pid file that of the only one there is. ready: it is a failure if no worker is ready.
    """
    try:
        pid = pid_of_file(pid_path) if pid_path is not None else only_one()
        return show(pid, as_json=as_json, ready=ready)
    except NoArbiter as error:
        print(error, file=sys.stderr)
        return error.exit_code


def show(pid: int, *, as_json: bool = False, ready: bool = False) -> int:
    """Print the status of this arbiter; returns the exit code. Raises NoArbiter."""
    summary, workers = look(pid)
    if as_json:
        shown = {key: value for key, value in summary.items() if key not in ("slots", "redis")}
        lines = [asdict(line) for line in workers]
        print(json.dumps({**shown, "count": _count(summary), "workers": lines}, indent=2))
    else:
        print(redact(describe(summary, workers)))
    if ready and not any(line.state in ("idle", "busy") for line in workers):
        print("no worker is ready", file=sys.stderr)
        return ExitCode.NOT_RUNNING
    return ExitCode.OK


def look(pid: int) -> tuple[dict[str, Any], list[WorkerLine]]:
    """The arbiter's own part of the scoreboard, and its workers. Raises NoArbiter."""
    board = _open(pid)
    try:
        summary = {"pid": pid, "process": _process_state(pid), **board.summary.read()}
        slots = expand(summary.get("slots", {}))
        wished = summary.get("wished", 0)
        used = list(board.used())
        shares = len(used) <= _MANY
        lines = [_line(board, slot, slots.get(slot, []), shares=shares) for slot in used]
        living = [line for line in lines if line.pid is not None]
        shown = {line.number for line in living}
        missing = sorted({*slots, *(range(1, wished + 1) if not slots else ())} - shown)
        living += [_line(board, slot, slots.get(slot, [])) for slot in missing]
        return summary, sorted(living, key=lambda line: line.number)
    finally:
        board.close()


def _open(pid: int) -> Scoreboard:
    """The arbiter's memfd, which its own user may open, and root. Raises NoArbiter."""
    try:
        for fd in arbiters.scoreboards(pid):
            return Scoreboard(os.dup(fd), writable=False)
    except ValueError as error:
        raise NoArbiter(f"pid {pid} runs another resqued: {error}") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            text = f"the arbiter, pid {pid}, belongs to another user"
            raise NoArbiter(text, ExitCode.NO_PERMISSION) from None
    raise NoArbiter(f"not running: pid {pid} is no arbiter")


def _line(board: Scoreboard, slot: int, queues: list[str], *, shares: bool = False) -> WorkerLine:
    record = board.read(slot)
    now = time.monotonic()
    there = record.pid > 0 and Path(f"/proc/{record.pid}").exists()
    busy = there and record.phase.holds_job
    state = _STATES.get(record.phase, "busy") if there else "down"
    memory, own = _memory(record.pid, shares=shares) if there else (None, None)
    return WorkerLine(
        number=slot,
        name=record.name,
        pid=record.pid if there else None,
        generation=record.generation,
        queues=queues,
        state=state,
        phase=record.phase.name.lower() if there else "empty",
        job_id=record.job_id if busy else None,
        function=record.function if busy else None,
        queue=record.queue if busy else None,
        job_age=now - record.job_started if busy and record.job_started else None,
        age=now - record.started if there and record.started else None,
        done=record.done,
        failed=record.failed,
        threads=_threads(record.pid) if there else None,
        memory=memory,
        own_memory=own,
    )


def _memory(pid: int, *, shares: bool) -> tuple[int | None, int | None]:
    """Bytes now: resident, and its share of them if that is asked for (proc_pid_smaps(5))."""
    try:
        if not shares:
            return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE, None
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found = {words[0]: int(words[1]) for words in map(str.split, rollup[1:])}
        return found["Rss:"] * 1024, found["Pss:"] * 1024
    except (OSError, LookupError):
        return None, None


def _threads(pid: int) -> int | None:
    """How many threads a process has now. proc_pid_task(5)."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except OSError:
        return None


def _process_state(pid: int) -> str:
    """Whether the arbiter's process can run. proc_pid_stat(5)."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return {"T": "stopped", "t": "traced", "Z": "dead", "D": "waiting"}.get(letter, "running")


def describe(summary: dict[str, Any], workers: Sequence[WorkerLine]) -> str:
    """The head lines and the table, as text."""
    process = summary["process"]
    head = [
        f"arbiter {summary['pid']} {summary.get('state', 'starting')}"
        + ("" if process == "running" else f", but its process is {process}"),
        f"generation {summary.get('generation', '?')}",
        f"{summary.get('ready', 0)}/{summary.get('wished', 0)} workers ready",
        f"configured {_count(summary)}",
    ]
    if started := summary.get("started"):
        head.append(f"up {_seconds(time.time() - started)}")
    if steward := summary.get("steward"):
        head.append(f"steward {steward}")
    if recoveries := summary.get("recoveries"):
        head.append(f"{recoveries} recoveries pending")
    lines = [", ".join(head)]
    if summary.get("booting") is not None:
        lines.append(f"reload: generation {summary['booting']} is loading")
    if summary.get("last_reload"):
        lines.append(f"last reload: {summary['last_reload']}")
    for plugin, hook in summary.get("silenced", {}).items():
        lines.append(f"plugin '{plugin}': {silenced_because(hook)}")
    if summary.get("config"):
        lines.append(f"config: {summary['config']}")
    return "\n".join([*(printable(line) for line in lines), "", *_table(workers)])


def _count(summary: dict[str, Any]) -> str:
    """`8 (+2)`: the configured number, and the difference made by signals."""
    difference = summary.get("difference", 0)
    return str(summary.get("configured", "?")) + (f" ({difference:+d})" if difference else "")


def _table(workers: Sequence[WorkerLine]) -> list[str]:
    shares = any(line.own_memory is not None for line in workers)
    rows = [_row(line) for line in workers]
    columns = (
        "WORKER",
        "PID",
        "GEN",
        "QUEUES",
        "STATE",
        "JOB",
        "AGE",
        "DONE",
        "FAILED",
        "THREADS",
        "MEMORY" if shares or len(workers) <= _MANY else "RESIDENT",
    )
    widths = [max(len(row[n]) for row in [columns, *rows]) for n in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in [columns, *rows]
    ]


_RIGHT: Final = {
    *("WORKER", "PID", "GEN", "AGE", "DONE", "FAILED", "THREADS", "MEMORY", "RESIDENT"),
}


def _row(line: WorkerLine) -> tuple[str, ...]:
    memory = line.memory if line.own_memory is None else line.own_memory
    job = f"{line.function or ''} {line.job_id or ''}".strip()
    if len(job) > _LONGEST_JOB:
        job = f"{job[: _LONGEST_JOB - 3]}..."
    cells = (
        "trial" if line.number == TRIAL else str(line.number),
        str(line.pid or "-"),
        str(line.generation or "-"),
        ",".join(line.queues) or "-",
        line.state,
        job or "-",
        "-" if line.job_age is None else _seconds(line.job_age),
        str(line.done),
        str(line.failed),
        "-" if line.threads is None else str(line.threads),
        "-" if memory is None else f"{memory / 1_000_000:.0f} MB",
    )
    return tuple(printable(cell) for cell in cells)


def _seconds(seconds: float) -> str:
    """`12s`, `3m12s`, `5h03m`, `2d04h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
