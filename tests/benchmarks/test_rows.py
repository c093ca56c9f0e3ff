"""The benchmarks run: rows in their smallest form. What they measure is not looked at here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import Check, Spread, at_least, at_most, ratio
from harness.command import environment
from harness.waiting import scaled

SMALL = (
    *("--alone", "--rounds", 1, "--burst", 0.01, "--jobs", 2, "--idle", 0.05),
    *("--workers", 2, "--crowd", 2, "--boots", 1, "--pushes", 3, "--kills", 1),
    *("--isolated-by", "-w rq.Worker", "--app", "light", "--forks", 10),
)


def compare(*words: object) -> str:
    command = [sys.executable, "-m", "benchmarks.compare", *map(str, words)]
    done = subprocess.run(
        command,
        env=environment(),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=scaled(55),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("plain", "CPU of whole tree, us a job"),
        ("kinds", "repeat"),
        ("isolation", "light app, CPU, us a job"),
        ("plugins", "20 plugins, env set"),
        ("push,thousand", "resqued --status, s"),
        ("scraped", "CPU of resquedctl top, % of a core"),
        ("facts", "the looks in Redis, ms a second"),
    ],
)
def test_a_row(names, told):
    assert told in compare("--only", names, *SMALL)


def test_every_row_is_listed_and_no_other_is_taken():
    listed = [line.split()[0] for line in compare("--list").splitlines()]
    assert "plain" in listed
    assert "peers" in listed
    with pytest.raises(AssertionError, match=r"no row 'fast'; there are start, .*peers"):
        compare("--only", "plain,fast")


def test_a_ratio_is_of_pairs_and_its_median_decides():
    (check,) = ratio({"a": [2.0, 9.0, 40.0], "b": [1.0, 3.0, 10.0]}, "a", "b", at_least(3))
    assert str(check) == "a/b 3 (2.5-3.5); at least 3: reached"
    assert str(Check("a", Spread.of([5]), at_most(4))) == "a 5; at most 4: NOT REACHED"
    assert ratio({"a": [1.0]}, "a", "b", at_most(1)) == []
