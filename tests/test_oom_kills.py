"""Deaths for want of memory: recognized by the cgroup's count, told to plugins and users."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import uuid
from pathlib import Path

import pytest

from harness import jobs
from harness.waiting import wait_for
from resqued.oom_kills import OomKills, find_file

KILLED = int(signal.SIGKILL)
MOUNTED = Path("/sys/fs/cgroup")
V2 = "low 0\nhigh 3\nmax 7\noom 2\noom_kill {}\noom_group_kill 9\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


@pytest.fixture(params=[V2, V1], ids=["v2", "v1"])
def kills(request, tmp_path):
    """`kills(n)`: the count is n from now on; `kills.of`: the object that reads it."""
    file = tmp_path / "count"

    def kills(count):
        file.write_text(request.param.format(count))
        return kills

    kills.of = OomKills(file)
    return kills


def test_a_kill_since_the_look_is_the_cause(kills):
    kills(5).of.look()
    kills(6)
    assert kills.of.is_cause(KILLED)
    assert not kills.of.is_cause(KILLED), "each kill has killed one"


def test_one_before_the_look_is_not(kills):
    kills(5).of.look()
    kills(7).of.look()
    assert not kills.of.is_cause(KILLED)


def test_each_of_several_is_the_cause_of_one_death(kills):
    kills(0).of.look()
    kills(2)
    assert [kills.of.is_cause(KILLED) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("status", [0, 1 << 8, int(signal.SIGTERM), int(signal.SIGSEGV), 137 << 8])
def test_only_a_sigkill_can_be_one(kills, status):
    kills(0).of.look()
    kills(1)
    assert not kills.of.is_cause(status)
    assert kills.of.is_cause(KILLED)


def test_a_count_that_is_fresh_is_not_read_again(kills):
    kills(0).of.look()
    kills(1).of.look(fresh=1000.0)
    assert kills.of.is_cause(KILLED)


@pytest.mark.parametrize("text", [None, "", "oom_kill", "oom_kill many", "max 3\n", "\xff\xfe"])
def test_what_cannot_be_read_says_no_and_nothing_else(tmp_path, text):
    file = tmp_path / "count"
    if text is not None:
        file.write_text(text)
    count = OomKills(file)
    count.look()
    assert not count.is_cause(KILLED)


CGROUPS = {
    "v2": ("0::/app", "app/memory.events", V2),
    "v2 in a container": ("0::/docker/1234", "memory.events", V2),
    "v1": ("4:cpu:/x\n3:memory:/app\n0::/", "memory/app/memory.oom_control", V1),
    "v1 in a container": ("3:memory:/docker/1", "memory/memory.oom_control", V1),
    "v1 with others": ("3:cpu,memory:/app", "memory/app/memory.oom_control", V1),
}


@pytest.mark.parametrize(("own", "place", "text"), CGROUPS.values(), ids=CGROUPS)
def test_the_file_of_the_own_cgroup_is_found(tmp_path, own, place, text):
    listed, file = tmp_path / "own", tmp_path / "mounted" / place
    listed.write_text(own + "\n")
    assert find_file(listed, tmp_path / "mounted") is None
    file.parent.mkdir(parents=True)
    file.write_text(text.format(3))
    assert find_file(listed, tmp_path / "mounted") == file


@pytest.mark.parametrize("own", [None, "", "nonsense", "1:name=systemd:/"])
def test_without_a_cgroup_there_is_none(tmp_path, own):
    listed = tmp_path / "own"
    if own is not None:
        listed.write_text(own)
    (tmp_path / "memory.events").write_text(V2.format(1))
    assert find_file(listed, tmp_path) is None


# With a real limit, where the tests may set one.


@pytest.fixture
def limited():
    """A cgroup of 400 MB; skips where none can be made."""
    memory = MOUNTED / "memory"
    parent, limit = (
        (memory, "memory.limit_in_bytes") if memory.is_dir() else (MOUNTED, "memory.max")
    )
    place = parent / f"resqued-test-{uuid.uuid4().hex[:8]}"
    try:
        place.mkdir()
        (place / limit).write_text(str(400 * 2**20))
    except OSError as error:
        with contextlib.suppress(OSError):
            place.rmdir()
        pytest.skip(f"no cgroup can be made here: {error}")
    with contextlib.suppress(OSError):  # no swap, where it is counted
        (place / "memory.swap.max").write_text("0")
    yield place
    wait_for(lambda: not (place / "cgroup.procs").read_text().split(), 10, "all to have left")
    place.rmdir()


CONFIG = """
    import json
    from resqued import hookimpl

    def note(*words):
        with open("notes", "a") as file:
            file.write(json.dumps(words) + chr(10))

    @hookimpl
    def worker_exited(worker, exit):
        note("exited", exit.out_of_memory, exit.job_id)

    @hookimpl
    def job_lost(job_id, verdict):
        note("lost", job_id, verdict)
"""


@pytest.fixture
def crowded(limited, resqued):
    """`crowded(*arguments)`: start it under the limit."""

    def start(*arguments):
        inside = f'echo $$ > {limited}/cgroup.procs; exec "$@"'
        return resqued(
            "-n",
            1,
            *arguments,
            config=CONFIG,
            under=("sh", "-c", inside, "sh"),
            expect_errors="killed|died|memory|fork server ended",
        )

    return start


def notes(arbiter, kind, times=1):
    path = arbiter.directory / "notes"

    def enough():
        lines = path.read_text().splitlines() if path.exists() else []
        found = [words for word, *words in map(json.loads, lines) if word == kind]
        return len(found) >= times and found

    return wait_for(enough, 20, f"{kind} {times} times")


TEXT = "the kernel killed it: out of memory (raise the limit of its cgroup"


def story(arbiter, job):
    return arbiter.control("why", "job", job.id).stdout


def test_a_worker_that_the_kernel_has_killed_says_so(crowded, queue):
    arbiter = crowded()
    job = queue().enqueue(jobs.hog, 2000)
    assert notes(arbiter, "exited") == [[True, job.id]]
    assert notes(arbiter, "lost") == [[job.id, "failed"]]
    assert TEXT in job.latest_result().exc_string
    arbiter.wait_for(r"ended: signal SIGKILL, held job=.*; the kernel killed it: out of memory")
    assert re.search(
        rf"failed, by worker 1 on .*: {re.escape(TEXT)}.*; it had \d+ MB", story(arbiter, job)
    )
    # One that somebody kills afterwards was not killed for want of memory.
    (worker,) = arbiter.wait_for_workers(1).values()
    arbiter.signal("KILL", pid=worker.pid)
    assert notes(arbiter, "exited", 2)[1] == [False, None]


@pytest.mark.parametrize("way", [("--isolation", "fork"), ("-w", "rq.Worker")], ids="_".join)
def test_the_child_of_a_worker_says_so_too(crowded, queue, way):
    arbiter = crowded(*way)
    (worker,) = arbiter.wait_for_workers(1).values()
    job = queue().enqueue(jobs.hog, 2000)
    assert notes(arbiter, "lost") == [[job.id, "failed"]]
    assert "the kernel killed it: out of memory" in story(arbiter, job)
    assert TEXT in job.latest_result().exc_string
    assert TEXT in arbiter.log()
    killed = queue().enqueue(jobs.kill_self)
    assert notes(arbiter, "lost", 2)[1] == [killed.id, "failed"]
    assert TEXT not in killed.latest_result().exc_string
    assert worker.is_running()


def test_a_worker_without_its_fork_server_says_so(crowded, queue, gate):
    """The arbiter has adopted it."""
    door = gate()
    arbiter = crowded()
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.wait_and_hog, str(door), 2000)
    door.wait_until_reached()
    (server,) = arbiter.fork_servers()
    arbiter.signal("KILL", pid=server.pid)
    arbiter.wait_for("fork server", timeout=10)
    door.open()
    assert notes(arbiter, "exited")[0] == [True, job.id]
