"""The quick set: which tests are in it, and that none of them starts a process unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness import processes
from harness.command import Resqued, environment, run
from harness.quick import leads_to_a_process
from harness.waiting import scaled, wait_for


def starts_one() -> None:
    os.fork()


def calls_one_that_does() -> None:
    starts_one()


class WithAMethod:
    def work(self) -> None:
        calls_one_that_does()


def uses_a_class() -> None:
    WithAMethod().work()


def calls_in_a_nested_function() -> None:
    def inner() -> None:
        subprocess.run(["true"], check=True)

    inner()


def calls_a_module() -> None:
    run("--version")


def calls_out_of_a_table() -> None:
    STEPS["only"][0]()


STEPS = {"only": (starts_one, 1)}


def only_looks() -> None:
    wait_for(lambda: processes.descendants())


@pytest.mark.parametrize(
    ("thing", "leads"),
    [
        (starts_one, True),
        (calls_one_that_does, True),
        (WithAMethod, True),
        (uses_a_class, True),
        (calls_in_a_nested_function, True),
        (calls_a_module, True),
        (calls_out_of_a_table, True),
        (Resqued, True),
        (only_looks, False),
        (os.fork, False),  # not of the tests: its callers name it
        (3, False),
    ],
)
def test_what_leads_to_the_start_of_a_process(thing: object, leads: bool):
    """By the names in the function, and in all of the tests that it leads to."""
    assert leads_to_a_process(thing) is leads


SAMPLE = """
import os

import pytest

start = getattr(os, "fo" + "rk")

def test_that_starts_nothing(): pass

def test_with_a_hidden_start():
    with pytest.raises(RuntimeError): start()

@pytest.fixture
def child(): os.fork()

def test_with_a_fixture(child): pass

@pytest.mark.processes
def test_that_is_marked(): start()
"""
HOOKS = "pytest_addoption, pytest_collection_modifyitems, pytest_configure"


def test_a_process_that_a_quick_test_starts_fails_it(tmp_path):
    """In a run of made-up tests with `--quick`: one that hides its start fails, although it catches
    the error; those that are marked, or whose fixture names the start, are not run."""
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "conftest.py").write_text(
        f"import harness.quick\nfrom harness.quick import {HOOKS}\n"
        "harness.quick.TESTS = __file__.removesuffix('conftest.py')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quick", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert "FAILED test_sample.py::test_with_a_hidden_start" in done.stdout
    assert "1 failed, 1 passed, 2 deselected" in done.stdout
