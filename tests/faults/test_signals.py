"""Signals at the worst moment, and what a terminal sends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time

import pytest

from faults.load import are_finished, pids
from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import is_late, stays_true, wait_for

IMPORTING = """
    import pathlib, time
    pathlib.Path("importing").touch()
    while not pathlib.Path("import-may-end").exists():
        time.sleep(0.01)
"""


# --- A terminal ------------------------------------------------------------------------------

ON = (
    "import os, sys; os.dup2(os.open(sys.argv[1], os.O_RDWR), 0);"
    " os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.fixture
def terminal():
    """Our side of a pseudo-terminal and the other side's name."""
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    os.close(theirs)
    sides = [ours]
    yield sides, name
    for side in sides:
        os.close(side)


@pytest.fixture
def on_terminal(terminal, resqued):
    """`on_terminal("-n", 2)`: with it as its controlling terminal and standard input."""

    def start(*arguments):
        under = [sys.executable, "-c", ON, terminal[1]]
        return resqued(*arguments, under=under)

    return start


def test_on_a_terminal_winch_is_a_resize_and_nothing_else(on_terminal):
    arbiter = on_terminal("-n", 2)
    arbiter.wait_for_workers(2)
    before = pids(arbiter)
    arbiter.signal("WINCH", "USR1")
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    assert before < pids(arbiter)


def test_a_terminal_that_hangs_up_drains(on_terminal, terminal, held, connection):
    arbiter = on_terminal("-n", 2, "--queue", "high")
    arbiter.wait_for_workers(2)
    job, there = held()
    os.close(terminal[0].pop())
    wait_for(lambda: len(arbiter.workers()) == 1, what="the idle worker to leave")
    stays_true(lambda: arbiter.running, 0.3, "the job is finished first")
    there.open()
    assert arbiter.exit() == 0
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:high"}
    said = re.sub("arbiter plugins: .*", "", arbiter.log())  # one of them is named reload
    assert "reload" not in said


def test_hup_on_a_terminal_that_stands_is_a_reload(on_terminal):
    arbiter = on_terminal("-n", 1)
    arbiter.wait_for_workers(1)
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")


# --- Reloads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("signame", ["QUIT", "TERM"])
def test_leaving_in_the_middle_of_a_reload(resqued, held, connection, signame):
    arbiter = resqued("-n", 2, "--queue", "high", "-r", "app", app="")
    arbiter.wait_for_workers(2)
    job, there = held()
    app = IMPORTING.replace("\n    ", "\n")
    (arbiter.directory / "app.py").write_text(app)
    arbiter.signal("HUP")
    wait_for((arbiter.directory / "importing").exists, what="the import")
    arbiter.signal(signame)
    if signame == "QUIT":
        wait_for(lambda: len(arbiter.fork_servers()) == 1, what="the new generation to be gone")
        there.open()
    assert arbiter.exit() == 0
    place = "finished:high" if signame == "QUIT" else "queue:high"
    assert assert_one_place_each(connection, [job.id]) == {job.id: place}
    assert "gen=2 in service" not in arbiter.log()


def test_ten_hups_at_once_are_one_reload_or_two(resqued, queue, connection):
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    ids = [queue().enqueue(jobs.sleep, 0.02).id for _ in range(40)]
    arbiter.signal(*["HUP"] * 10)
    arbiter.wait_for(r"gen=\d+ in service", timeout=20)
    wait_for(lambda: are_finished(connection, ids), 20, "all jobs to be finished")
    wait_for(lambda: len(arbiter.fork_servers()) == 1, 20, "one generation")
    arbiter.wait_for_workers(2)
    assert 1 <= len(re.findall(r"gen=\d+ in service", arbiter.log())) <= 2
    assert sorted(arbiter.ledger.started()) == sorted(ids)


# --- To others than the arbiter --------------------------------------------------------------


def test_a_worker_that_is_signalled_in_its_first_moments_obeys(resqued, queue, connection):
    """Whatever it is at: never the default action, never the fork server's handler."""
    arbiter = resqued("-n", 4)
    arbiter.wait_for_workers(4)
    (server,) = arbiter.fork_servers()
    sent: set[int] = set()
    signals = [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT]
    began = time.monotonic()
    while len(sent) < 40 and not is_late(began, 45):
        for child in processes.descendants(server.pid):
            if child.pid not in sent:
                sent.add(child.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signals[len(sent) % 3])
    assert len(sent) >= 40
    arbiter.wait_for_workers(4)
    assert not re.search(r"signal SIG", arbiter.log()), "nobody died of one"
    assert arbiter.fork_servers() == [server]
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: are_finished(connection, [job.id]), what="a job to be done")


def test_a_fork_server_that_is_told_to_leave_is_replaced_without_an_error(
    resqued, held, connection
):
    arbiter = resqued("-n", 2, "--queue", "high")
    arbiter.wait_for_workers(2)
    job, there = held()
    (server,) = arbiter.fork_servers()
    arbiter.signal("QUIT", pid=server.pid)
    arbiter.wait_for("WARNING .*fork server was told to leave")
    wait_for(lambda: len(arbiter.workers()) == 2, what="service again while the job goes on")
    there.open()
    arbiter.wait_for_workers(2)
    assert [each.pid for each in arbiter.fork_servers()] != [server.pid]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:high"}


def test_a_fork_server_that_is_told_to_leave_while_it_loads_is_started_again(resqued):
    """Whoever signals everybody may come to it before he comes to the arbiter."""
    arbiter = resqued("-n", 1, "-r", "app", app=IMPORTING)
    wait_for((arbiter.directory / "importing").exists, what="the import")
    (arbiter.directory / "importing").unlink()
    (server,) = arbiter.fork_servers()
    arbiter.signal("TERM", pid=server.pid)
    wait_for((arbiter.directory / "importing").exists, what="another import")
    assert arbiter.stop("TERM") == 0
