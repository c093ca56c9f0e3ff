"""What a line of the log may hold: any object, and tracebacks without frames that tell nothing."""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from resqued.log_events import LogEvent
from resqued.logs.line_format import Line, render
from resqued.logs.plain_values import plain_value
from resqued.logs.tracebacks import shorten, summary

WHEN = datetime(2026, 3, 1, 14, 3, 7, 120_999, tzinfo=UTC)


class Bad:
    def __repr__(self):
        raise RuntimeError("no")


class Number(float):
    def __repr__(self):
        return "nonsense"


class JobTimeoutException(Exception):
    """As RQ's: raised by a signal handler, anywhere."""


class Slow:
    def __str__(self):
        raise JobTimeoutException


RECURSIVE: list[object] = []
RECURSIVE.append(RECURSIVE)
OWN: dict[str, object] = {}
OWN["own"] = OWN


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (3, 3),
        (2.5, 2.5),
        (True, True),
        (None, None),
        ("text", "text"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (Number(2.5), 2.5),
        (LogEvent.JOB_FAILED, "job_failed"),
        (Decimal("1.5"), "1.5"),
        (Fraction(1, 2), "1/2"),
        (2**70, str(2**70)),
        (b"caf\xe9", "caf\\xe9"),
        ("caf\udce9", "caf\\udce9"),
        ("redis://u:pw1@h", "redis://u:***@h"),
        ({"a": [1, (2.5, math.nan)]}, {"a": [1, [2.5, "nan"]]}),
        ({1: {"redis://u:pw1@h"}}, {"1": ["redis://u:***@h"]}),
        (Bad(), "<Bad, which raises RuntimeError>"),
        ([Bad()], ["<Bad, which raises RuntimeError>"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_what_json_has_or_text(value, plain):
    assert plain_value(value) == plain
    assert type(plain_value(value)) is type(plain)


@pytest.mark.parametrize(
    "value",
    [RECURSIVE, OWN, 10**10_000, "x" * 10**6, list(range(10**5)), {n: n for n in range(10**5)}],
    ids=["recursive", "own", "digits", "text", "list", "mapping"],
)
def test_what_is_huge_or_recursive_is_cut(value):
    assert len(json.dumps(plain_value(value), allow_nan=False)) < 40_000


def test_a_timeout_of_a_job_is_not_swallowed():
    with pytest.raises(JobTimeoutException):
        plain_value({"a": Slow()})


NASTY = {
    "newline": "a\nb\r\nc\x85d\u2028e",
    "bytes": "\udcff\ud800",
    "huge": "y" * 10**6,
    "recursive": RECURSIVE,
    "repr": Bad(),
    "nan": math.nan,
    "na\nme": 1,
}


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_record_is_one_line_whatever_is_in_it(style):
    raw = render(style, "worker=1 gen=2 pid=3", Line(WHEN, "INFO", "said", "app", fields=NASTY))
    assert len(raw.decode().splitlines()) == 1
    assert raw.endswith(b"\n")


def test_a_line_of_json_has_its_fields():
    line = Line(
        WHEN,
        "WARNING",
        "ended\nbelow",
        "resqued.core",
        LogEvent.WORKER_DIED,
        {"worker": 4, "pid": 9, "signal": None, "seconds": 1.5},
        traceback="Traceback",
    )
    assert json.loads(render("json", "arbiter", line)) == {
        "time": "2026-03-01T14:03:07.120Z",
        "level": "WARNING",
        "logger": "resqued.core",
        "message": "ended",
        "details": "below",
        "process": "arbiter",
        "event": "worker_died",
        "worker": 4,
        "pid": 9,
        "seconds": 1.5,
        "traceback": "Traceback",
    }


def test_names_of_the_application_do_not_replace_those_of_the_line():
    bound = {"time": 1, "event": "mine", "job": 5, "size": 2, "traceback": "t"}
    line = Line(WHEN, "INFO", "said", "app", fields=bound, job={"job": "a1", "queue": "q"})
    made = json.loads(render("json", "worker=1 gen=2 pid=3", line))
    assert (made["job"], made["job_"], made["size"]) == ("a1", 5, 2)
    assert (made["time_"], made["event_"], made["traceback_"]) == (1, "mine", "t")
    assert "event" not in made
    text = render("text", "worker=1", replace(line, fields={"size": 2})).decode()
    assert text.endswith("worker=1 said size=2 job=a1 queue=q\n")


def _formatted(call):
    try:
        call()
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError


def test_a_traceback_keeps_the_frames_of_the_application():
    import importlib

    text = _formatted(lambda: importlib.import_module("no.such.module"))
    assert "importlib" in text
    short = shorten(text)
    assert "importlib" not in short.replace("import importlib", "").replace("importlib.import", "")
    assert __file__ in short
    assert short.endswith("ModuleNotFoundError: No module named 'no'\n")
    assert summary(text) == ("ModuleNotFoundError: No module named 'no'", True)


def test_a_traceback_of_rq_alone_is_dropped_unless_it_is_a_defect():
    import rq.job

    text = (
        "Traceback (most recent call last):\n"
        f'  File "{rq.job.__file__}", line 9, in execute\n'
        "    return self.func(*self.args)\n"
        "           ^^^^^^^^^^^\n"
        "TypeError: f() takes 1 positional argument\n"
    )
    assert shorten(text) == ""
    assert shorten(text, whole=True) == text
    assert shorten(text + "and more\n") == "TypeError: f() takes 1 positional argument\nand more"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("killed by SIGKILL\nand more", ("killed by SIGKILL", False)),
        ("", ("", False)),
        ("Traceback (most recent call last):\nValueError: x", ("ValueError: x", True)),
    ],
)
def test_a_summary_is_one_line(text, found):
    assert summary(text) == found
