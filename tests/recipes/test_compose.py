"""examples/compose: only fields that exist, and what the workers' service says is run."""

from __future__ import annotations

import re

import pytest

from harness import jobs
from harness.waiting import wait_for, wait_for_exit
from recipes.conftest import EXAMPLES, SCHEMAS

HERE = EXAMPLES / "compose"
SCHEMA = SCHEMAS / "compose.json"


@pytest.fixture
def compose(documents):
    (document,) = documents(HERE / "compose.yaml")
    return document


def test_compose_knows_every_field(compose, complaint):
    assert complaint(SCHEMA, compose) == ""
    compose["services"]["workers"]["stop_grace"] = "60s"
    assert "stop_grace" in complaint(SCHEMA, compose)


def test_the_grace_covers_the_drain_and_the_stop_after_it(compose):
    workers = compose["services"]["workers"]
    grace = int(workers["command"][workers["command"].index("--grace") + 1])
    assert int(workers["stop_grace_period"].removesuffix("s")) >= grace + 5
    dockerfile = (HERE / "Dockerfile").read_text()
    assert f"STOPSIGNAL {workers['stop_signal']}" in dockerfile
    command = re.findall(r'"([^"]+)"', dockerfile.partition("CMD ")[2])
    assert command[0] == "resqued"
    assert command[command.index("--grace") + 1] == str(grace)


def test_it_is_healthy_and_drains_when_it_is_stopped(compose, container, queue, gate):
    workers = compose["services"]["workers"]
    words = list(workers["command"])
    words[words.index("shop.tasks")] = "app"
    one = container(words, app="")
    test = workers["healthcheck"]["test"]
    assert test[0] == "CMD"
    wait_for(lambda: one.exec(*test[1:]).returncode == 0, 30, "it to be healthy")
    assert one.exec("resquedctl", "scale", "+1").returncode == 0
    one.outside.wait_for_workers(5)
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    one.signal(workers["stop_signal"].removeprefix("SIG"))
    one.outside.wait_for("drain")
    assert job.get_status() == "started"
    door.open()
    assert wait_for_exit(one.outside.process, 20) == 0
    assert job.get_status() == "finished"
