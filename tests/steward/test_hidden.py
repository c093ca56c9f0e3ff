"""Processes of another user on the same machine, where /proc shows only one's own (hidepid)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness import jobs
from harness.waiting import scaled, stays_true, wait_for
from resqued import linux
from resqued.broker.owner import Owner
from resqued.linux import Life

CLAIMS = "rq:resqued:claims"
HARDENED = """
mount --make-rprivate /
mount -t proc -o hidepid=2,gid=65533 proc /proc
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""
NOBODY = 65534


@pytest.fixture
def other():
    """A process of another user. Asked for before `resqued`, which looks at who is left behind."""
    process = subprocess.Popen(
        ["sleep", "600"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env={}
    )
    yield process
    process.kill()
    process.wait(scaled(10))


@pytest.fixture
def hardened(tmp_path):
    """Start with it: root without its capabilities, and a /proc that hides what is not its own."""
    script = tmp_path / "hardened"
    script.write_text(HARDENED)
    return ["unshare", "--mount", "sh", str(script)]


def hold(connection, queue, process, ticks):
    """A worker of somebody else's arbiter, which has this process, has taken a job."""
    job = queue.enqueue(jobs.noop)
    owner = Owner("other", linux.machine(), "other.1.1", process.pid, ticks)
    assert connection.lmove(queue.key, queue.intermediate_queue_key, "LEFT", "RIGHT")
    connection.hset(CLAIMS, str(owner), f"{job.id} {queue.key}")
    return job


@pytest.mark.parametrize("noted", [True, False], ids=["ticks", "no-ticks"])
def test_the_living_are_left_alone_and_the_dead_are_not(
    other, hardened, resqued, connection, queue, noted
):
    ticks = linux.birth_ticks(other.pid) if noted else 0
    job = hold(connection, queue(), other, ticks)
    arbiter = resqued("-n", 1, "--dead-after", 2, under=hardened)
    arbiter.wait_for_workers(1)
    arbiter.wait_for_steward()
    # Nothing is heard of its arbiter; the kernel says that the process is there.
    stays_true(lambda: connection.hlen(CLAIMS) == 1, 6, "the claim to stand")
    other.kill()
    other.wait(scaled(10))
    wait_for(lambda: job.get_status() == "finished", 20, "the dead worker's job to be done")


def test_who_is_there_for_too_long_without_a_word_is_another_one(
    other, hardened, resqued, connection, queue
):
    """A pid comes again, and behind hidepid nobody can see whether it is the same process."""
    job = hold(connection, queue(), other, linux.birth_ticks(other.pid))
    arbiter = resqued("-n", 1, "--dead-after", 0.5, under=hardened)
    arbiter.wait_for_workers(1)
    wait_for(lambda: job.get_status() == "finished", 50, "the job to be recovered")
    assert other.poll() is None


def test_what_the_kernel_says_of_a_process():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = linux.birth_ticks(child.pid)
    assert linux.life(os.getpid(), linux.birth_ticks(os.getpid())) is Life.ALIVE
    assert linux.life(child.pid, ticks) is Life.ALIVE
    assert linux.life(child.pid, ticks + 1) is Life.DEAD, "another one had the pid"
    assert linux.life(child.pid, 0) is Life.UNKNOWN
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert linux.life(child.pid, ticks) is Life.DEAD, "a zombie"
    child.communicate()
    assert linux.life(child.pid, ticks) is Life.DEAD
    assert linux.life(0, 1) is linux.life(-1, 1) is Life.DEAD, "these would be groups"
