"""The screen of `resquedctl top`: what it shows where, in any size, of any names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resqued.ctl import top
from resqued.ctl.top_page import SORTS, QueueTrends, View, listed, screen
from resqued.printable import printable
from resqued.status.reader import ArbiterStatus, QueueLine, WorkerLine
from resqued.status.text import width_of, written

IDLE = WorkerLine(
    *(1, "h.1", 100, 2, ["high"], "idle", "idle", None, None, None, None, 10.0, 3, 0),
    *(None, None, None),
)
BUSY = replace(IDLE, number=2, state="busy", job_id="5a1e0c2e", function="app.resize", queue="high")
QUEUE = QueueLine("high", 3, 5.0, 2, 1, 2, 1, 0, 7, 12.0, False, False)


def status(workers: list[WorkerLine], queues: list[QueueLine]) -> ArbiterStatus:
    summary = {"state": "running", "generation": 2, "ready": 2, "wished": 2}
    return ArbiterStatus(
        *(812, "running", None, summary, workers, queues, None, 12, 1, None, False)
    )


def shown(
    of: ArbiterStatus, view: View | None = None, width: int = 80, height: int = 24, **more: Any
):
    lines = screen(of, QueueTrends(), view or View(), more.pop("events", []), width, height, **more)
    return written(lines, colour=False)


def test_the_parts_of_a_screen():
    text = shown(status([IDLE, BUSY], [QUEUE]), events=["03:14  worker_ready  worker=1 ready"])
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "arbiter 812 running, generation 2, 2/2 workers ready"
    assert lines[3].startswith("[██") and lines[3].endswith("░]")
    assert lines[4].split() == [
        *("QUEUE", "WAITING", "OLDEST", "WORKERS", "BUSY", "/MIN", "FAILED", "TREND")
    ]
    assert lines[5].split() == ["high", "3", "5s", "2", "1", "12", "7"]
    assert lines[6] == "WORKER by number"
    assert "app.resize" in lines[7]
    assert lines[-3:-1] == ["events", "03:14  worker_ready  worker=1 ready"]
    assert lines[-1].startswith("q quit")
    assert "#" in shown(status([BUSY], []), blocks=False)


def test_idle_workers_are_shown_when_they_are_asked_for():
    both = status([IDLE, BUSY], [])
    assert [line.number for line in listed(both, View())] == [2]
    assert [line.number for line in listed(both, View(shows_idle=True))] == [1, 2]
    assert "no worker is busy" in shown(status([IDLE], []))


@pytest.mark.parametrize("sort", SORTS)
def test_workers_are_sorted(sort):
    workers = [
        replace(BUSY, number=1, job_age=1.0, function="b", queue="b", done=1, failed=1),
        replace(BUSY, number=2, job_age=9.0, function="a", queue="a", done=9, failed=9),
    ]
    order = [line.number for line in listed(status(workers, []), View(sort=sort))]
    assert order == ([1, 2] if sort == "number" else [2, 1])


def test_the_window_follows_the_chosen_worker():
    workers = [replace(BUSY, number=n, job_id=f"job-{n}") for n in range(1, 101)]
    text = shown(status(workers, []), View(chosen=70), width=120)
    assert " of 100" in text
    assert "job-70" in text
    assert "job-1 " not in text


def test_a_trend_is_the_change_in_half_a_minute():
    trends = QueueTrends()
    for waiting in (10, 12, 15):
        trends.note([replace(QUEUE, waiting=waiting)])
    assert trends.trend("high") == 5
    assert trends.trend("other") is None
    trends.note([])
    assert trends.trend("high") is None


def test_details_are_scrolled_and_never_cut():
    view = View(detail=[f"line {n}" for n in range(100)] + ["x" * 200], scrolled=1000)
    text = shown(status([], []), view)
    assert "line 99" in text
    assert text.count("x") == 200
    assert text.splitlines()[-1].startswith("q back")


def test_keys_are_single_ones_and_sequences():
    assert list(top._keys("q\x1b[A\x1bOBs\x1b[5~\r")) == [
        *("q", "\x1b[A", "\x1bOB", "s", "\x1b[5~", "\r")
    ]


NAMES = st.text(max_size=100) | st.sampled_from(["\x1b[31m" * 20, "漢字" * 50, "a" * 200])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=30),
    st.integers(24, 200),
    st.integers(6, 60),
    st.booleans(),
)
def test_any_name_in_any_size(names, width, height, in_detail):
    workers = [
        replace(BUSY, number=n, function=function, job_id=job_id, queue=queue, job_age=3.0)
        for n, (function, job_id, queue) in enumerate(names, 1)
    ]
    queues = [replace(QUEUE, name=queue, served=n % 2) for n, (_, _, queue) in enumerate(names)]
    view = View(detail=[name for name, _, _ in names] if in_detail else None)
    events = [name for _, name, _ in names]
    lines = screen(status(workers, queues), QueueTrends(), view, events, width, height)
    assert len(lines) == height
    for line in lines:
        whole = "".join(part for part, _ in line)
        assert printable(whole) == whole
        assert width_of(whole) <= width
