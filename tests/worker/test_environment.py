"""The variables that a worker sets for each job."""

from __future__ import annotations

import ctypes
import os
import subprocess

import pytest

from resqued.worker.boundary.environment import Environment

JOBS = 20_000


class Usage(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocated() -> int:
    """Bytes that the C library has given out."""
    look = ctypes.CDLL(None).mallinfo2
    look.restype = Usage
    return int(look().uordblks)


def seen_by_programs(name: str) -> str:
    return subprocess.run(["printenv", name], capture_output=True, text=True, check=False).stdout


@pytest.fixture
def environment():
    yield Environment()
    os.environ.pop("RQ_JOB_ID", None)


def test_another_value_for_each_job_takes_no_memory(environment):
    """setenv(3) keeps each that it was ever given."""
    environment.put(RQ_JOB_ID="first")
    before = allocated()
    for number in range(JOBS):
        environment.put(RQ_JOB_ID=f"job-{number:032d}")
    assert allocated() - before < JOBS


@pytest.mark.parametrize("value", ["one", "zwei-ü", "x" * 2000, ""], ids=len)
def test_everybody_sees_it(environment, value):
    environment.take()  # here, since pytest sets a variable for each step of a test
    environment.put(RQ_JOB_ID="before")
    environment.put(RQ_JOB_ID=value)
    assert os.environ["RQ_JOB_ID"] == value == seen_by_programs("RQ_JOB_ID").rstrip("\n")
    assert not environment.differs()


@pytest.mark.parametrize("meddle", [lambda: os.environ.pop("RQ_JOB_ID"), os.environ.clear])
def test_it_is_there_again_after_a_job_that_deleted_it(environment, meddle):
    environment.take()  # here, since pytest sets a variable for each step of a test
    environment.put(RQ_JOB_ID="one")
    kept = dict(os.environ)
    meddle()
    environment.restore()
    assert dict(os.environ) == kept
    environment.put(RQ_JOB_ID="two")
    assert os.environ["RQ_JOB_ID"] == seen_by_programs("RQ_JOB_ID").strip() == "two"


def test_what_cannot_be_set_is_refused(environment):
    environment.take()  # here, since pytest sets a variable for each step of a test
    environment.put(RQ_JOB_ID="one")
    with pytest.raises(ValueError, match="null"):
        environment.put(RQ_JOB_ID="a\0b")
    assert seen_by_programs("RQ_JOB_ID").strip() == "one"
