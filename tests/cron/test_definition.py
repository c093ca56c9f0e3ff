"""A definition's identity and digest: the same in each process, another when something changes."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resqued.cron.canonical import digest
from resqued.cron.definition import Definition
from resqued.cron.misfire import Misfire
from resqued.cron.schedules import cron_period, shortest_period, usual_grace
from resqued.cron.ticks import CronTicks, IntervalTicks

JOB = Definition(
    name="a job: of mine",
    function="myapp.tasks.clean",
    args=(1, "a"),
    kwargs={"deep": True},
    queue="low",
    interval=None,
    cron="0 3 * * *",
    timezone="Europe/Berlin",
)

CHANGES = [
    {"name": "other"},
    {"function": "myapp.tasks.clear"},
    {"args": (1, "b")},
    {"args": (True, "a")},
    {"kwargs": {}},
    {"queue": "high"},
    {"cron": "0 4 * * *"},
    {"cron": None, "interval": 60.0},
    {"timezone": "UTC"},
    {"misfire": Misfire.SKIP},
    {"grace": 7200.0},
    {"overlap": False},
    {"jitter": 5.0},
    {"enabled": False},
    {"options": {"ttl": 5}},
    {"of_rq": True},
    {"instance": 5},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_change_is_seen(change):
    assert replace(JOB, **change).digest != JOB.digest


def test_the_place_of_its_registration_is_no_change():
    assert replace(JOB, place="myapp/cron.py:5").digest == JOB.digest == replace(JOB).digest


def test_its_key():
    assert JOB.key == replace(JOB, function="a.b", args=(), queue="x").key == "a job: of mine"
    of_rq = replace(JOB, of_rq=True)
    assert of_rq.key.startswith("a job: of mine:")
    others = [
        {"function": "a.b"},
        {"args": ()},
        {"kwargs": {}},
        {"queue": "high"},
        {"cron": "0 4 * * *"},
        {"cron": None, "interval": 60.0},
    ]
    assert len({of_rq.key, *(replace(of_rq, **other).key for other in others)}) == 7
    assert replace(of_rq, options={"ttl": 5}, timezone="UTC").key == of_rq.key


def test_its_ticks():
    assert JOB.ticks(0.0) == CronTicks("0 3 * * *", ZoneInfo("Europe/Berlin"))
    assert JOB.ticks(0.0) is JOB.ticks(1.0), "the expression is parsed once"
    assert replace(JOB, cron=None, interval=60.0).ticks(7.0) == IntervalTicks(7.0, 60.0)


def test_what_is_shown_is_plain_json_without_arguments():
    shown = JOB.shown()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["key"] == JOB.key and shown["digest"] == JOB.digest
    assert shown["misfire"] == "once"
    assert not {"args", "kwargs", "options", "instance", "place"} & set(shown)


class Colour(enum.Enum):
    RED = 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.text())
        | st.tuples(inner, inner)
    ),
)


@given(PLAIN)
def test_the_digest_of_an_equal_value_is_equal(value):
    def copied(part):
        match part:
            case dict():
                return {key: copied(each) for key, each in reversed(part.items())}
            case list() | tuple():
                return type(part)(map(copied, part))
            case frozenset():
                return frozenset(sorted(part, reverse=True))
            case str():
                return "".join(list(part))
        return part

    assert digest(copied(value)) == digest(value)


DIFFERENT = [
    *(None, True, 1, 1.0, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, {"1": 1}),
    *((), [], {}, "", ((),), ([],), ("a", "b"), ("ab",), ("a;", "b"), {"a": "b"}, {"b": "a"}),
    *(Colour.RED, OrderedDict(b=1), 0.0, -0.0, 0),
]


def test_the_digests_of_different_values_differ():
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert digest("a", "b") != digest("ab")
    assert digest(lambda: 1) == digest(lambda: 2), "what cannot be pickled counts by its type"


def test_the_digest_does_not_depend_on_the_process():
    program = (
        "from resqued.cron.canonical import digest\n"
        "print(digest({'a', 'b', 'c', 'd'}, {'x': 1.5, 'y': [None]}, 'text'))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert found == {digest({"a", "b", "c", "d"}, {"x": 1.5, "y": [None]}, "text") + "\n"}


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("* * * * *", 60),
        ("* * * * * *", 1),
        ("*/7 * * * *", 4 * 60),  # from minute 56 to the full hour
        ("0 9,10,17 * * 1-5", 3600),
        ("@daily", 86400),
        ("0 0 1 * *", 29 * 86400),
        ("0 0 29 2 *", 1461 * 86400),
    ],
)
def test_the_period_of_an_expression(expression, seconds):
    assert cron_period(expression) == seconds


@pytest.mark.parametrize(
    ("expression", "zone", "seconds"),
    [
        ("0 */2 * * *", "UTC", 7200),
        ("0 */2 * * *", "Europe/Berlin", 3600),  # two o'clock comes twice
        ("30 1,3 * * *", "Europe/Berlin", 3600),  # there is no hour between
        ("0 3 * * *", "Australia/Lord_Howe", 86400 - 1800),
        ("* * * * * *", "Europe/Berlin", 1),
        ("0 0 1 1 *", "Europe/Berlin", 365 * 86400),
    ],
)
def test_the_shortest_period_with_the_changes_of_daylight_saving(expression, zone, seconds):
    assert shortest_period(expression, zone, 1.79e9) == seconds


@pytest.mark.parametrize(("period", "grace"), [(1, 3600), (7200, 7200), (1e6, 86400)])
def test_the_grace_is_a_period_from_an_hour_to_a_day(period, grace):
    assert usual_grace(period) == grace


def test_the_package_imports_neither_rq_nor_redis_nor_croniter():
    program = (
        "import sys, resqued.cron\n"
        "print([n for n in ('rq', 'redis', 'croniter', 'loguru') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"[]\n"
