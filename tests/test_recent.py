"""The arbiter's last events: kept, cut, told in packets."""

from __future__ import annotations

import json

from resqued import logs
from resqued.arbiter.recent import MOST, Recent, RecentStream
from resqued.control.packets import LONGEST
from resqued.logs import LogEvent


def test_the_last_ones_are_kept_with_their_fields():
    recent = Recent(clock=lambda: 1000.0004)
    for number in range(MOST + 50):
        recent.add("worker_ready", worker=number)
    assert len(recent.as_plain()) == MOST
    assert recent.as_plain()[-1] == {"time": 1000.0, "event": "worker_ready", "worker": MOST + 49}
    assert [each["worker"] for _, each in recent.since(MOST + 48)] == [MOST + 48, MOST + 49]
    assert recent.since(MOST + 50) == []
    assert len(recent.since(0)) == MOST


def test_what_is_no_json_becomes_text_and_long_texts_are_cut():
    recent = Recent()
    recent.add("odd", when=float("inf"), what=object, many=list(range(100)), text="x\x1b" * 5000)
    event = json.loads(json.dumps(recent.as_plain()[0]))
    assert event["when"] == "inf"
    assert len(event["many"]) == 20
    assert len(event["text"]) <= 1000
    assert "\x1b" not in event["text"]


def test_what_is_told_to_the_log_is_an_event_but_for_debugging():
    recent = Recent()
    logs.listen(recent.note)
    try:
        logs.info("gen=1 ready", LogEvent.GENERATION_LOADED, gen=1, traceback="...")
        logs.debug("a detail", LogEvent.WORKER_FORKED)
        logs.at("INFO", "a line without a name", None)
    finally:
        logs.listen(lambda *told: None)
    (event,) = recent.as_plain()
    assert (event["event"], event["gen"], event["level"]) == ("generation_loaded", 1, "INFO")
    assert event["text"] == "gen=1 ready"
    assert "traceback" not in event


def test_they_survive_a_reexec():
    recent, after = Recent(), Recent()
    recent.add("signal_received", signal="USR2")
    after.add("reexec_done")
    after.restore(json.loads(json.dumps(recent.as_plain())))
    told = next(RecentStream(after, follows=True).take())
    assert [each["event"] for each in told["events"]] == ["signal_received", "reexec_done"]


def test_a_stream_tells_each_once_in_packets_that_fit():
    recent = Recent()
    for _ in range(MOST):
        recent.add("long", text="x" * 5000)
    stream = RecentStream(recent, follows=True)
    told = list(stream.take())
    assert sum(len(each["events"]) for each in told) == MOST
    assert all(len(json.dumps(each)) < LONGEST - 1000 for each in told)
    assert list(stream.take()) == []
    recent.add("later")
    assert [each["event"] for each in next(stream.take())["events"]] == ["later"]
