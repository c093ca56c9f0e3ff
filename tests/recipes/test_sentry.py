"""examples/sentry: events of jobs that ended badly arrive once at a server in Sentry's place."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from harness.receivers import Site
from harness.waiting import stays_true, wait_for
from recipes.conftest import EXAMPLES

SITE = EXAMPLES / "sentry"
EXPECTED = "failed job=|Traceback|rq.worker|killed|ValueError|Error|stuck"


@pytest.fixture
def sink():
    sink = Site()
    yield sink
    sink.close()


def events(sink):
    """What has arrived: type and text of each exception, or the message."""
    found = Counter()
    for path, body in list(sink.posts):
        assert path == "/api/1/envelope/"
        lines = body.split(b"\n")
        for head, item in zip(lines[1::2], lines[2::2], strict=False):
            if json.loads(head)["type"] != "event":
                continue
            event = json.loads(item)
            if "exception" in event:
                error = event["exception"]["values"][-1]
                found[f"{error['type']}: {error['value']}"] += 1
            else:
                found[event.get("message") or event["logentry"]["message"]] += 1
    return found


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_each_event_arrives_once(sink, resqued, programs, queue, ends, isolation):
    arbiter = resqued(
        *("-n", 2, "--path", SITE, "--isolation", isolation, "--max-jobs", 2),
        config=(SITE / "resqued.conf.py").read_text(),
        command=str(programs / "resqued"),
        expect_errors=EXPECTED,
        SENTRY_DSN=f"http://key@127.0.0.1:{sink.port}/1",
    )
    arbiter.wait_for_workers(2)
    for number in range(4):  # every second one is the last of its worker
        ends(queue().enqueue("shop.fails", number), "failed")
    ends(queue().enqueue("shop.charge", 7))
    ends(queue().enqueue("shop.takes_long", 8, job_timeout=1), "failed")
    ends(queue().enqueue("shop.is_killed", 9), "failed")
    (arbiter.directory / "resqued.conf.py").write_text(
        (SITE / "resqued.conf.py").read_text().replace('"shop"', '"shop", "nowhere"')
    )
    arbiter.signal("HUP")
    arbiter.wait_for("reload.*failed|nowhere")

    def kinds():
        return Counter({_kind(text): number for text, number in events(sink).items()})

    expected = {f"ValueError: order {number} cannot be paid": 1 for number in range(4)}
    expected |= {"JobTimeoutException": 1, "JobKilled": 1, "resqued": 1}
    wait_for(lambda: kinds() >= Counter(expected), 20, f"{expected}")
    assert arbiter.stop("QUIT", timeout=20) == 0
    stays_true(lambda: kinds() == expected, 0.5, "each once, and no other")


def _kind(text):
    return text if text.startswith("ValueError") else text.partition(":")[0]
