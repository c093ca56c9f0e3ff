"""The table of signals is the one place: what is added to it is obeyed by all processes."""

from __future__ import annotations

import os
import signal

import pytest

from harness.command import TESTS
from harness.waiting import wait_for
from resqued import signals
from resqued.signal_table import TABLE, AtStart, InArbiter, row_named, row_of

MADE_UP = signal.SIGRTMIN + 9

SITE = f"""
import signal
from resqued.signal_table import TABLE, InArbiter, InForkServer, InSteward, InWorker, SignalRow

TABLE.append(
    SignalRow(
        {int(MADE_UP)},
        "MADEUP",
        InArbiter.GROW,
        InForkServer.DRAIN,
        InSteward.LEAVE,
        InWorker.DRAIN,
    )
)
"""

CONFIG = f"""
import os, pathlib
_there = pathlib.Path("sent")
if not _there.exists():  # in the arbiter, which has no loop yet
    _there.touch()
    os.kill(os.getpid(), {int(MADE_UP)})
"""


@pytest.fixture
def arbiter(resqued, tmp_path):
    """An arbiter with a signal more in its table, which its config file has sent it once."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    return resqued("-v", config=CONFIG, PYTHONPATH=f"{site}{os.pathsep}{TESTS}")


def test_a_signal_that_is_added_to_the_table_is_obeyed_everywhere(arbiter):
    arbiter.wait_for(r"workers=2 \(\+1\), was 1")  # it was held until the loop ran
    workers = arbiter.wait_for_workers(2)
    steward = arbiter.wait_for_steward()

    os.kill(arbiter.pid, MADE_UP)
    arbiter.wait_for("signal MADEUP", times=2)
    arbiter.wait_for(r"workers=3 \(\+2\), was 2")

    os.kill(workers[1].pid, MADE_UP)
    arbiter.wait_for(rf"worker=1 gen=1 pid={workers[1].pid} exited \(on request\)")

    os.kill(steward.pid, MADE_UP)
    arbiter.wait_for_steward(other_than=steward.pid)

    (server,) = arbiter.fork_servers()
    os.kill(server.pid, MADE_UP)
    arbiter.wait_for("leaving: SIGMADEUP received")
    wait_for(
        lambda: [each.pid for each in arbiter.fork_servers()] not in ([], [server.pid]),
        what="another fork server",
    )
    arbiter.wait_for_workers(3)


def test_each_signal_and_each_name_is_there_once():
    assert len({row.signum for row in TABLE}) == len({row.name for row in TABLE}) == len(TABLE)
    assert all(row_of(row.signum) is row_named(row.name) is row for row in TABLE)


def test_each_effect_in_the_arbiter_has_a_signal():
    assert {row.arbiter for row in TABLE} == set(InArbiter)


def test_what_is_held_during_the_start_is_what_the_loop_listens_to():
    """One that nothing listened to would stay blocked in the loop too."""
    held = {row.signum for row in TABLE if row.start is AtStart.HOLD}
    assert held <= {row.signum for row in TABLE if row.arbiter is not InArbiter.DEFAULT}


def test_names_are_those_of_the_kernel_and_of_the_table():
    assert signals.name_of(signal.SIGHUP) == "SIGHUP"
    assert signals.name_of(row_named("NOW").signum) == "SIGNOW"
    assert signals.name_of(signal.SIGRTMIN + 20) == f"signal {signal.SIGRTMIN + 20}"
