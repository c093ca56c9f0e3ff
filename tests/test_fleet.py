"""`resquedctl fleet`: what all arbiters of a Redis tell of themselves there."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from harness import jobs
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for
from resqued import __version__
from resqued.broker import fleet
from resqued.broker.fleet import FLEET, SEEN, FleetEntry, enter, read_fleet


def ctl(valkey, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "resquedctl"), "fleet", *map(str, words), "--url", valkey.url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
        stdin=subprocess.DEVNULL,
    )


def plain(valkey) -> dict[str, object]:
    return json.loads(ctl(valkey, "--json").stdout)


def test_all_arbiters_are_shown_and_one_that_leaves_is_not(resqued, valkey, queue, gate):
    assert ctl(valkey).stdout == "no arbiter has told anything to this Redis within a day\n"
    first = resqued("-n", 2, "--queue", "a", "--queue", "b=1", "--name", "web")
    second = resqued("-n", 1, "--queue", "a=5/fleet")
    first.wait_for_workers(2)
    second.wait_for_workers(1)
    holding = gate()
    queue("b").enqueue(jobs.wait_at, str(holding))
    holding.wait_until_reached()

    def told():
        arbiters = {each["pid"]: each for each in plain(valkey)["arbiters"]}
        mine = [arbiters.get(each.pid, {}) for each in (first, second)]
        return [(each.get("ready"), each.get("busy")) for each in mine] == [(2, 1), (1, 0)] and mine

    entries = wait_for(told, 20, "both entries")
    assert [each["version"] for each in entries] == [__version__] * 2
    assert [each["generation"] for each in entries] == [1, 1]
    assert (entries[0]["queues"], entries[0]["name"]) == ({"a": 2, "b": 1}, "web")
    assert plain(valkey)["queues"] == {"a": 3, "b": 1}
    shown = ctl(valkey).stdout
    assert shown.startswith("2 arbiters on 1 host, 3/3 workers ready, 1 busy\n")
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["a", "3", "5/none", "-"],
        ["b", "1", "-", "-"],
    ]
    holding.open()
    assert first.stop("QUIT") == 0
    wait_for(lambda: [each["pid"] for each in plain(valkey)["arbiters"]] == [second.pid], 5)


def test_a_reload_and_a_reexec_are_told_under_one_entry(resqued, valkey):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    assert arbiter.control("reload", "--wait").returncode == 0
    assert arbiter.control("reexec", "--wait").returncode == 0

    def told():
        return [(each["pid"], each["generation"]) for each in plain(valkey)["arbiters"]]

    wait_for(lambda: told() == [(arbiter.pid, 3)], 20, "the third generation")


def test_one_that_is_silent_is_marked_and_dropped_after_a_day(valkey, connection):
    enter(connection, "gone", FleetEntry("host-a", 7, "1.0", queues={"a": 2}, ready=2, workers=2))
    enter(connection, "here", FleetEntry("host-b", 8, "1.0", queues={"a": 1}, ready=1, workers=1))
    connection.zincrby(SEEN, -20, "gone")
    shown = ctl(valkey).stdout
    assert shown.startswith("1 arbiter on 1 host, 1/1 workers ready, 0 busy; 1 silent\n")
    assert "silent for 2" in shown
    assert plain(valkey)["queues"] == {"a": 1}
    connection.zincrby(SEEN, -86400, "gone")
    assert list(read_fleet(connection)) == ["here"]
    enter(connection, "here", FleetEntry("host-b", 8, "1.0"))  # any arbiter drops it
    assert connection.hkeys(FLEET) == [b"here"]
    fleet.leave(connection, "here")
    assert connection.exists(FLEET, SEEN) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"host": "h", "pid": 1, "version": "1", "queues": {"a": "x"}}',
        b'{"host": "h", "pid": 1, "version": "1", "busy": []}',
        b'{"host": 5, "pid": 1, "version": "1"}',
        b'{"host": "h", "pid": 1, "version": null, "state": {}}',
    ],
)
def test_an_entry_that_makes_no_sense_is_passed_over(valkey, connection, text):
    enter(connection, "odd", FleetEntry("host-a", 7, "1.0"))
    enter(connection, "good", FleetEntry("host-b", 8, "1.0"))
    connection.hset(FLEET, "odd", text)
    shown = ctl(valkey)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("1 arbiter on 1 host")


def test_an_entry_of_a_later_version_is_shown(valkey, connection):
    enter(connection, "new", FleetEntry("host-a", 7, "9.0"))
    connection.hset(FLEET, "new", b'{"host": "h", "pid": 1, "version": "9", "colour": "red"}')
    assert [each["version"] for each in plain(valkey)["arbiters"]] == ["9"]


def test_keys_of_another_type_are_set_aside(resqued, valkey, connection):
    connection.set(FLEET, "x")
    connection.set(SEEN, "x")
    arbiter = resqued("-n", 1, expect_errors="kept as")
    arbiter.wait_for_workers(1)
    wait_for(lambda: len(read_fleet(connection)) == 1, 20, "the entry")


def test_thousands_of_queues_fit(connection):
    names = {f"{'q' * 240}{number}": 1 for number in range(1000)}
    began = time.monotonic()
    enter(connection, "one", FleetEntry("host", 1, "1.0", queues=names, more=4000))
    assert read_fleet(connection)["one"].queues == names
    assert time.monotonic() - began < scaled(1)
