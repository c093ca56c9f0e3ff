"""Names and sizes as people have them: whatever RQ takes works everywhere or is refused."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job

from harness import jobs
from harness.command import run
from harness.waiting import wait_for
from resqued.config import Config
from resqued.printable import is_printable, listed, one_line, printable
from resqued.shares import QueueShare, make_queue, parse_queue
from resqued.titles import worker as show_worker

ODD = [
    "a b",
    "x=y",
    "x=5",
    "100%",
    "app:high",
    "tenant:20",
    "mail-*",
    "[x]*",
    "очередь",
    "qé",
    "-dash",
    "a'b\"c",
    "{tag}",
    "q.1@host",
    "all",
    "😀" * 60,
]


def test_every_name_that_rq_takes_is_served_from_the_file(resqued, connection):
    queues = [Queue(name, connection=connection) for name in ODD]
    done = [queue.enqueue(jobs.noop) for queue in queues]
    arbiter = resqued("-n", 2, config=f"queues = {dict.fromkeys(ODD, 'all')!r}")
    wait_for(lambda: all(job.is_finished for job in done), 20, "a job of each queue to be done")
    served = {name for line in arbiter.status()["workers"] for name in line["queues"]}
    assert served == set(ODD)
    for line in arbiter.status()["workers"]:
        os.kill(line["pid"], 9)
    wait_for(lambda: arbiter.log().count(" ready") >= 4, 15, "the killed workers' successors")
    again = [queue.enqueue(jobs.noop) for queue in queues]
    wait_for(lambda: all(job.is_finished for job in again), 20, "the successors to serve them")


@pytest.mark.parametrize("name", ["a\nFORGED line", "a\u2028\x1b[2Jb", "x" * 5000, "y z" * 2000])
@pytest.mark.parametrize("worker_class", ["resqued.worker.rq_worker.ResquedWorker", "rq.Worker"])
def test_a_name_that_a_star_stands_for_breaks_no_line(resqued, connection, name, worker_class):
    queue = Queue(name, connection=connection)
    good = queue.enqueue(jobs.noop)
    arbiter = resqued("-n", 1, "--queue", "*", "-w", worker_class)
    wait_for(lambda: good.is_finished, 20, "its job to be done")
    arbiter.wait_for(rf"finished job={good.id} queue=.* seconds=")
    lines = [line for line in arbiter.log().splitlines() if f"={good.id}" in line]
    assert len(lines) == 2
    assert all(is_printable(line) and len(line) < 1600 for line in lines)
    assert not [line for line in arbiter.log().splitlines() if line.strip().startswith("FORGED")]


def test_the_id_of_a_job_that_is_gone_breaks_no_line(resqued, connection):
    connection.rpush("rq:queue:default", "gone\nFORGED line")
    arbiter = resqued("-n", 1)
    arbiter.wait_for("is gone: deleted, expired or evicted")
    assert not [line for line in arbiter.log().splitlines() if line.strip().startswith("FORGED")]


def test_of_a_long_message_both_ends_are_kept():
    shown = one_line(f"finished job=1 queue={'x' * 5000} seconds=0.001")
    assert shown.startswith("finished job=1 queue=xxx")
    assert shown.endswith("xxx seconds=0.001")
    assert "(5035 characters)" in shown


def test_every_name_can_be_written_on_the_command_line(tmp_path, valkey):
    words = [f"--queue={name}=all" for name in ODD]
    code, out, error = run("--check", *words, cwd=tmp_path, RQ_REDIS_URL=valkey.url)
    assert (code, error) == (0, "")
    for name in ODD:
        assert name in out


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("critical,high", "write --queue critical --queue high"),
        ("high:20", "write 'high=20'"),
        ("low:10%", "write 'low=10%'"),
        ("low:all", "write 'low=all'"),
        ("mail-*", "'*' alone is every queue that is not named; write 'mail-*=all'"),
        ("x=y", "a queue of the name 'x=y' is written 'x=y=all'"),
        ("a\nb", r"queue 'a\x0ab' has control characters"),
        ("a\x9b31m", r"queue 'a\x9b31m' has control characters"),
        ("a\u202eb", r"queue 'a\u202eb' has control characters"),
        (os.fsdecode(b"a\xff"), "is not UTF-8"),
        ("q" * 256, "has 256 bytes; at most 255"),
        ("a:intermediate", "is where RQ keeps jobs being taken from 'a'"),
        ("", "needs a name"),
    ],
)
def test_what_is_surely_a_mistake_is_refused_with_the_remedy(tmp_path, word, remedy):
    code, out, error = run("--check", f"--queue={word}", cwd=tmp_path)
    assert (code, out) == (64, "")
    assert "error: --queue: " in error
    assert remedy in error
    assert "Traceback" not in error


def test_the_same_mistakes_are_refused_in_variable_and_file(tmp_path):
    code, _, error = run("--check", cwd=tmp_path, RESQUED_QUEUES="high:20,mail-*")
    assert code == 78
    assert "RESQUED_QUEUES: 'high:20' has no share" in error
    assert "RESQUED_QUEUES: 'mail-*' is no pattern" in error
    (tmp_path / "resqued.conf.py").write_text('queues = {"a,b": "all", "c\\udcff": 1}\n')
    code, _, error = run("--check", cwd=tmp_path)
    assert code == 78
    assert "resqued.conf.py:1: queues: queue 'a,b' has a comma" in error
    assert r"queue 'c\udcff' is not UTF-8" in error


def test_thousands_of_queues_and_settings(resqued, connection):
    names = [f"{'q' * 60}{number:05}" for number in range(5500)]
    config = """
        from resqued import hookimpl

        queues = {f"{'q' * 60}{number:05}": "all" for number in range(5500)}

        @hookimpl
        def add_options(options):
            for number in range(1000):
                options.add(f"--many-settings-of-one-plugin-m{number}", default="v" * 100)
    """
    arbiter = resqued("-n", 2, config=config)
    arbiter.wait_for_workers(2, timeout=40)
    done = [Queue(name, connection=connection).enqueue(jobs.noop) for name in names[::1000]]
    wait_for(lambda: all(job.is_finished for job in done), 40, "jobs of some queues to be done")
    lines = arbiter.status()["workers"]
    assert [line["queues"] for line in lines] == [names, names]
    mark = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec done", timeout=40, after=mark)
    arbiter.wait_for("gen=2 in service", timeout=40, after=mark)
    last = Queue(names[-1], connection=connection).enqueue(jobs.noop)
    wait_for(lambda: last.is_finished, 40, "a job after the re-exec")


def test_many_long_names_in_another_alphabet_leave_the_stop_words_alone(resqued, connection):
    names = [f"очередь-для-больших-заданий-{number}" * 3 for number in range(12)]
    arbiter = resqued("-n", 3, config=f"queues = {dict.fromkeys(names, 'all')!r}")
    arbiter.wait_for_workers(3)
    job = Queue(names[-1], connection=connection).enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job to be done")
    assert arbiter.status()["workers"][0]["queues"] == names
    assert "ended" not in arbiter.log(), "no worker was told to leave"


@pytest.mark.parametrize("number", ["1e11", "99999999999", "9" * 400, "nan", "inf", "-1"])
def test_a_number_beyond_any_use_is_refused(tmp_path, number):
    for flag in ("--grace", "--max-age", "--worker-ttl", "--max-jobs", "--max-memory", "-n"):
        code, _, error = run("--check", flag, number, cwd=tmp_path)
        assert code == 64 or (flag in ("--max-memory", "--max-jobs") and number[0] == "9"), flag
        assert "Traceback" not in error
        assert code == 0 or re.search("error: --", error), error


@pytest.mark.parametrize("number", ["1e18", "10 ** 400", "-(10**400)", "10 ** 5000", "math.nan"])
def test_a_number_beyond_any_use_is_refused_in_the_file(tmp_path, number):
    names = ("grace", "max_age", "worker_ttl", "max_memory", "workers", "max_threads")
    file = tmp_path / "resqued.conf.py"
    for name in names:
        file.write_text(f"import math\n{name} = {number}\n")
        code, _, error = run("--check", cwd=tmp_path)
        assert code == 78, error
        assert "Traceback" not in error
        assert f"resqued.conf.py:2: {name}: " in error


def test_the_largest_numbers_that_are_taken_work(resqued, queue):
    years = 10 * 365 * 86400
    flags = ("--grace", "--boot-timeout", "--kill-after", "--loop-timeout", "--dead-after")
    flags += ("--max-age", "--worker-ttl", "--results-ttl", "--maintenance-interval")
    arbiter = resqued("-n", 1, *(word for flag in flags for word in (flag, years)))
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job to be done")
    assert arbiter.stop("QUIT") == 0


def test_text_is_shown_without_what_a_terminal_acts_on():
    hostile = "a\x1b[31m\x9b\u202e\u2028\u2029\u2066\x00\x7f\udcffb"
    assert printable(hostile) == r"a\x1b[31m\x9b\u202e\u2028\u2029\u2066\x00\x7f\udcffb"
    assert printable("a\tb\nc", lines=True) == "a\tb\nc"
    assert printable("a\tb\nc") == r"a\x09b\x0ac"
    assert is_printable("очередь 😀")
    assert listed(["a\nb", "c"]) == r"a\x0ab,c"


def test_hostile_names_in_log_title_and_status(resqued, connection, tmp_path):
    hostile = "a\x9b31m\u202e\u2028b"
    job = Job.create(jobs.noop, connection=connection)
    job.save()
    connection.rename(job.key, Job.key_for(hostile))  # whoever may write to Redis is not asked
    connection.sadd("rq:queues", "rq:queue:default")
    connection.rpush("rq:queue:default", hostile)
    arbiter = resqued("-n", 1, "--pid", tmp_path / "pid", expect_errors="failed job=a")
    (line,) = arbiter.wait_for(r"failed job=(a.*b) queue=default: unreadable: .*letters, numbers")
    assert line[1] == r"a\x9b31m\u202e\u2028b"
    code, out, _ = run("--status", "--pid", tmp_path / "pid", cwd=tmp_path)
    assert code == 0
    assert not re.search("[\x80-\x9f\u202e\u2028]", out + arbiter.log())


def test_a_title_holds_nothing_that_a_terminal_acts_on():
    before = Path("/proc/self/cmdline").read_bytes()
    try:
        show_worker(1, ["a\x9bb", "c\udcff"], "idle")
        assert rb"worker 1 a\x9bb,c\udcff [idle]" in Path("/proc/self/cmdline").read_bytes()
    finally:
        from setproctitle import setproctitle

        setproctitle(before.replace(b"\0", b" ").decode(errors="replace").strip())


def test_a_queue_survives_the_channel_to_the_last_digit():
    queues = (
        *(make_queue(name, "all") for name in ODD),
        QueueShare("a=b", percent=Fraction("33.333333333")),
        QueueShare("x=5", number=3),
    )
    assert Config.from_plain(Config(queues=queues).as_plain()).queues == queues


def test_a_queue_is_written_as_it_is_read():
    for name in ODD:
        for share in ("all", 5, "10%"):
            queue = make_queue(name, share)
            assert parse_queue(str(queue)) == queue
