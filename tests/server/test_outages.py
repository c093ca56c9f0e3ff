"""What a process logs of an outage that another one sees too."""

from __future__ import annotations

from types import SimpleNamespace

from redis.exceptions import ReadOnlyError

from resqued.broker import outages
from resqued.broker.outages import Outage


def test_the_remedy_is_logged_also_where_the_first_line_comes_later(monkeypatch):
    """A worker leaves the first seconds to the steward, which may be gone; and says it once."""
    clock, lines = [100.0], []

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(outages, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(outages.logs, "at", lambda level, text, *_, **__: lines.append(text))
    monkeypatch.setattr(Outage, "_explained", {})
    config = SimpleNamespace(redis="redis://host", loop_timeout=60)
    one, other = (Outage(config, sleep, seen_elsewhere=lambda: False) for _ in range(2))
    while clock[0] < 140.0:
        one.wait(ReadOnlyError("no writes"))
        other.wait(ReadOnlyError("no writes"))
    assert ["it is a replica" in line for line in lines] == [True, False]
