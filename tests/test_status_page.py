"""The page of `resquedctl status`: what it says, in how many columns, of which names."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resqued.facts import Facts
from resqued.printable import printable
from resqued.scoreboard.runs import ranges
from resqued.status.page import jobs_by_queue, page, tick
from resqued.status.reader import ArbiterStatus, QueueLine, WorkerLine
from resqued.status.text import (
    cut,
    cut_left,
    flow,
    function_in,
    has_colour,
    width_of,
    written,
)

ID = "5a1e0c2e-0b1f-4f4e-9a53-0d9cf2a7c1de"

IDLE = WorkerLine(
    number=1,
    name="h.1",
    pid=100,
    generation=2,
    queues=["high", "mails"],
    state="idle",
    phase="idle",
    job_id=None,
    function=None,
    queue=None,
    job_age=None,
    age=10.0,
    done=3,
    failed=0,
    threads=None,
    memory=None,
    own_memory=None,
)
BUSY = replace(
    IDLE, state="busy", job_id=ID, function="app.resize", queue="high", job_age=65.0, timeout=180.0
)
QUIET = QueueLine("high", 0, None, 2, 1, 2, 1, 0, 0, 12.0, False, False)


def facts(**more: Any) -> Facts:
    """What the steward has measured just now."""
    return replace(Facts(time.monotonic(), True, 0.0, "", 0.0004, False, None, (), 0, 0), **more)


def status(*workers: WorkerLine, queues: list[QueueLine] | None = None, **summary: Any):
    return ArbiterStatus(
        pid=812,
        process="running",
        still=None,
        summary={"state": "running", "generation": 2, "ready": 2, "wished": 2, **summary},
        workers=list(workers),
        queues=queues or [],
        facts=facts(),
        done=12,
        failed=1,
        memory=1_200_000_000,
        is_estimate=True,
    )


def text(of: ArbiterStatus, width: int = 80, **more: Any) -> str:
    return written(page(of, width, **more), colour=False)


def test_what_is_well_is_short():
    shown = text(status(*(replace(IDLE, number=n) for n in (1, 2, 4)), queues=[QUIET]))
    assert shown.splitlines() == [
        "arbiter 812 running, generation 2, 2/2 workers ready",
        "workers: 0 busy, 3 idle, 0 booting, 12 jobs done, 1 failed, about 1.2 GB",
        "redis: ok, 0.4 ms",
        "",
        "idle: 1-2, 4",
    ]


def test_a_busy_worker_with_its_whole_id_and_the_age_of_its_timeout():
    line = text(status(BUSY)).splitlines()[-1]
    assert line == f"  1  app.resize  {ID}  high  1m05s/3m00s"
    late = replace(BUSY, job_age=200.0)
    assert "\x1b[31m" in written(page(status(late), 80), colour=True).splitlines()[-1]


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        (replace(QUIET, waiting=5, served=0, workers=0), "no worker serves it"),
        (replace(QUIET, waiting=5, served=None, unserved=True), "no worker serves it"),
        (replace(QUIET, paused=True), "paused"),
        (replace(QUIET, waiting=5, started=20, limit=20), "at its limit 20/20"),
        (replace(QUIET, waiting=5, oldest=90.0, started=20, limit=20), "at its limit 20/20"),
        (replace(QUIET, waiting=5, started=19, limit=20), None),
        (replace(QUIET, waiting=0, started=20, limit=20), None),
        (replace(QUIET, waiting=5, started=None, limit=20), None),
        (replace(QUIET, waiting=5, oldest=90.0), "it waits long"),
        (replace(QUIET, waiting=5, oldest=2.0), None),
        (replace(QUIET, waiting=None, served=None), None),
    ],
)
def test_queues_that_need_a_look(queue, said):
    shown = text(status(IDLE, queues=[queue]))
    assert ("queues that need a look" in shown) is (said is not None)
    if said is not None:
        (line,) = [line for line in shown.splitlines() if line.startswith("  high")]
        assert line.endswith(said)
    assert "  high" in text(status(IDLE, queues=[queue]), everything=True)


def test_of_many_queues_in_trouble_the_rest_is_counted():
    queues = [replace(QUIET, name=f"q{n}", waiting=1, served=0) for n in range(25)]
    assert "and 15 more (--all)" in text(status(queues=queues))
    assert "  q24 " in text(status(queues=queues), everything=True)


def test_of_many_queues_in_trouble_the_worst_are_named():
    paused = [replace(QUIET, name=f"p{n}", paused=True, waiting=n) for n in range(25)]
    unserved = replace(QUIET, name="z", waiting=1, served=0)
    shown = [line.split()[0] for line in text(status(queues=[*paused, unserved])).splitlines()[5:8]]
    assert shown == ["z", "p24", "p23"]


def test_what_is_wrong_comes_first():
    stopped = replace(status(IDLE), process="stopped")
    assert text(stopped).startswith("arbiter 812 running, but its process is stopped,")
    still = replace(status(IDLE), still=42.0)
    assert text(still).startswith("arbiter 812 running, but its loop has not turned for 42s,")
    away = facts(answers=False, since=time.monotonic() - 65, error="refused\x1b[2J")
    shown = text(replace(status(IDLE), facts=away))
    assert "redis: no answer for 1m05s: refused\\x1b[2J" in shown
    held = facts(suspended=True, scheduler=False)
    assert "suspended (rq suspend): no job is taken" in text(replace(status(), facts=held))
    assert "0 scheduled and no scheduler runs" in text(replace(status(), facts=held))


def test_the_last_reload_with_its_time_and_what_still_finishes():
    old = replace(BUSY, generation=1)
    shown = text(
        status(
            old,
            last_reload="generation 2: done",
            last_reload_at=time.monotonic() - 192,
            generations={"1": "retiring", "2": "ready"},
        )
    )
    assert "last reload: generation 2: done 3m12s ago, generation 1 finishes 1 job" in shown


def test_a_drain_says_what_is_left_and_for_how_long():
    shown = text(status(BUSY, state="draining", stop_by=time.monotonic() + 61))
    assert "1 job left (high 1), grace left 1m00s" in shown
    assert "2 workers left" in shown
    assert jobs_by_queue([BUSY, BUSY, replace(BUSY, queue="a\x1b")]) == (
        "3 jobs left (a\\x1b 1, high 2)"
    )


NAMES = st.text(max_size=300) | st.sampled_from(["\x1b[31m" * 20, "漢字" * 50, "a" * 200])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=4),
    st.integers(24, 200),
    st.booleans(),
)
def test_any_name_in_any_width(names, width, everything):
    workers = [
        replace(BUSY, number=n, function=function, job_id=job_id, queue=queue, queues=[queue])
        for n, (function, job_id, queue) in enumerate(names, 1)
    ]
    queues = [replace(QUIET, name=queue, waiting=3, served=0) for _, _, queue in names]
    shown = status(*workers, queues=queues, config="/srv/" + "x" * 300)
    lines = page(shown, width, everything=everything)
    limit = width if everything else min(width, 80)
    for line in lines:
        whole = "".join(part for part, _ in line)
        assert printable(whole) == whole
        assert width_of(whole) <= limit, whole
    shown_ids = re.sub(r"\s", "", written(lines, colour=False))
    for _, job_id, _ in names:
        assert re.sub(r"\s", "", printable(job_id)) in shown_ids, "an id is never cut"


def test_cells():
    assert (width_of("漢字"), width_of("e\u0301"), width_of("abc")) == (4, 1, 3)
    assert (cut("abcdef", 4), cut("漢字漢字", 5), cut("abc", 3)) == ("ab..", "漢..", "abc")
    assert (cut_left("app/tasks/resize", 8), cut("abc", 0)) == ("..resize", "")
    names = [function_in("app.tasks.resize", width) for width in (16, 12, 8, 4)]
    assert names == ["app.tasks.resize", "tasks.resize", "resize", "re.."]
    assert ranges([7, 1, 2, 3]) == "1-3, 7"
    lines = flow([("one", ""), ("two", ""), ("three", "")], 10)
    assert written(lines, colour=False) == "one, two,\n  three"


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_colour(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colour(Terminal())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (20.0, "next report at 12:00:20"),
        (-20.0, "next report after 11:59:40"),
        (86400.0, "next report at 2026-03-02 12:00:00"),
    ],
)
def test_the_next_tick(after, text):
    now = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
    assert tick("report", now + after, now) == text
