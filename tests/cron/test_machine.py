"""One periodic job and its arbiters under a Hypothesis machine, beside a plain model.

The model looks at every minute, lists all ticks, and counts. What Redis has is one text, the last
tick, compared and set as `cron_tick.lua` does. Arbiters may look late, see an old state, restart,
and have two definitions of the job; it may be paused; the clock may jump.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.cron_model import CHANGES, ZONES, model
from harness.examples import examples
from resqued.cron.definition import Definition
from resqued.cron.jitter import DueTicks
from resqued.cron.misfire import MOST, PUNCTUAL, Misfire
from resqued.cron.schedules import shortest_period, usual_grace
from resqued.cron.timetable import Entry, text_of_tick

MINUTE = 60.0
LONGEST = 4 * 86400.0  # seconds without a look: the model looks at each minute of them
MISTAKEN = 3600.0  # seconds that a last tick may lie in the future

EXPRESSIONS = [
    *("* * * * *", "*/20 * * * *", "15,45 2,3 * * *", "30 2 * * *", "0 */2 * * *", "30 1,3 * * *"),
    *("0 0 * * *", "59 23 * * 0", "0 0-5 29,30,31 * *", "*/7 1-3 * * *", "0 3 1 4,11 *"),
]
BEGINS = [
    (name, change.timestamp())
    for name in ZONES
    for change in CHANGES.get(name, [datetime(2026, 3, 29, 1, tzinfo=UTC)])
]


@st.composite
def definitions(draw: st.DrawFn, zone: str | None = None) -> dict[str, Any]:
    """What may be said of a job of a name."""
    zone = zone or draw(st.sampled_from(ZONES))
    cron, interval = draw(st.sampled_from([*EXPRESSIONS, None])), None
    if cron is None:
        interval = float(draw(st.sampled_from([60, 90, 3600, 86400])))
        period = interval
    else:
        period = min(shortest_period(cron, zone, change - 50 * 3600.0) for _, change in BEGINS)
    jitter = period * draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.999]))
    return {
        "cron": cron,
        "interval": interval,
        "timezone": zone,
        "misfire": draw(st.sampled_from(Misfire)),
        "grace": draw(st.sampled_from([0.0, 600.0, 86400.0, usual_grace(period)])),
        "overlap": draw(st.booleans()),
        "jitter": jitter,
    }


def plain_ticks(job: Definition, first: float, begin: float, end: float) -> list[float]:
    """All ticks in (begin, end]."""
    if job.cron is not None:
        moments = (datetime.fromtimestamp(each, UTC) for each in (begin, end))
        return model(job.cron, ZoneInfo(job.timezone), *moments)
    found, number = [], 0
    while (tick := first + number * job.interval) <= end:
        if tick > begin:
            found.append(tick)
        number += 1
    return found


class Cron(RuleBasedStateMachine):
    """`last` is what Redis has; an arbiter has an Entry, perhaps of an earlier state."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[float] = []
        self.steps = 0

    @initialize(
        data=st.data(),
        begin=st.sampled_from(BEGINS),
        count=st.integers(1, 3),
        hours=st.integers(-2, 40),
    )
    def start(self, data: st.DataObject, begin: tuple[str, float], count: int, hours: int) -> None:
        zone, self.change = begin
        self.now = self.change - hours * 3600.0
        self.first = self.now
        made = Definition("job", "a.b", (), {}, "q", **data.draw(definitions(zone)))
        self.job, self.last, self.paused = made, text_of_tick(self.now), False
        self.arbiters = [Entry(made, ours=True) for _ in range(count)]
        for number in range(count):
            self.hear(number)

    def quiet(self, every: int) -> bool:
        """Whether what disturbs may be done: less often than waiting."""
        self.steps += 1
        return self.steps % every == 0

    # What Redis tells and takes.

    def hear(self, number: int) -> None:
        """An arbiter hears of the state, as from a heartbeat or an answer."""
        entry = self.arbiters[number]
        ours = entry.definition is self.job
        entry = replace(entry, ours=ours, first=self.first)
        self.arbiters[number] = entry.moved(self.last, paused=self.paused, keeper="")

    @property
    def since(self) -> float:
        return float(self.last)

    @rule(number=st.integers(0, 2))
    def restart(self, number: int) -> None:
        """Its process is another, and reads the state."""
        number %= len(self.arbiters)
        self.arbiters[number] = Entry(self.arbiters[number].definition)
        self.hear(number)

    @precondition(lambda self: self.now - self.since < LONGEST / 2)
    @rule(minutes=st.integers(0, 3000), seconds=st.floats(0, 59), number=st.integers(0, 2))
    def wait(self, minutes: int, seconds: float, number: int) -> None:
        self.now += minutes * MINUTE + round(seconds, 3)
        self.look(number)

    @rule(minutes=st.integers(-150, 150), number=st.integers(0, 2))
    def wait_for_the_change(self, minutes: int, number: int) -> None:
        """Of daylight saving, or until some time before or after it."""
        then = self.change + minutes * MINUTE
        if self.now < then < self.since + LONGEST:
            self.now = then
            self.look(number)

    @rule(late=st.sampled_from([-0.002, 0.0, 0.001, 59.0, 61.0, 3599.0]), number=st.integers(0, 2))
    def wait_for_the_next(self, late: float, number: int) -> None:
        """And look at once, or late."""
        due = self.arbiters[number % len(self.arbiters)].next_due("", self.now)
        if self.now < due < self.since + LONGEST:
            self.now = due + late
            self.look(number)

    @precondition(lambda self: self.quiet(7))
    @rule(seconds=st.integers(1, 7200))
    def clock_jumps_back(self, seconds: int) -> None:
        self.now -= seconds

    @precondition(lambda self: self.quiet(5))
    @rule()
    def pause(self) -> None:
        self.paused = True
        for number in range(len(self.arbiters)):
            self.hear(number)

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        """Its ticks count from now, but for those that are done with."""
        self.paused = False
        self.last = max(self.last, text_of_tick(self.now), key=float)
        for number in range(len(self.arbiters)):
            self.hear(number)

    @precondition(lambda self: self.quiet(4))
    @rule(number=st.integers(0, 2), data=st.data())
    def deploy(self, number: int, data: st.DataObject) -> None:
        """An arbiter brings another definition, which is in force from now on."""
        number %= len(self.arbiters)
        self.job = replace(self.job, **data.draw(definitions()))
        self.arbiters[number] = Entry(self.job)
        for each in range(len(self.arbiters)):
            self.hear(each)

    @rule(number=st.integers(0, 2))
    def reload(self, number: int) -> None:
        """An arbiter gets the newest definition too."""
        number %= len(self.arbiters)
        self.arbiters[number] = Entry(self.job)
        self.hear(number)

    @rule(number=st.integers(0, 2))
    def look(self, number: int) -> None:
        """An arbiter does what is due by what it knows; Redis takes it if that is the state."""
        entry = self.arbiters[number % len(self.arbiters)]
        if not entry.is_active or entry.next_due("", self.now) > self.now:
            assert entry.last != self.last or not entry.is_active or self.nothing_is_due()
            self.hear(number % len(self.arbiters))
            return
        decision = entry.decide(self.now)
        if entry.last != self.last:
            assert decision is None or decision.last != self.last, "nothing of it is taken"
        else:
            self.compare(decision)
        self.hear(number % len(self.arbiters))

    # The model.

    def due(self) -> list[tuple[float, float]]:
        """(due, tick) of all that have passed since the last, in their order."""
        since = self.since + 0.0005
        ticks = plain_ticks(self.job, self.first, since, self.now)
        delays = DueTicks(self.job.ticks(self.first), self.job.key, self.job.jitter, since)
        found = [(tick + delays._delay(tick), tick) for tick in ticks]
        assert found == sorted(found), "they keep their order"
        return [(due, tick) for due, tick in found if due <= self.now]

    def nothing_is_due(self) -> bool:
        return not self.due() and self.since <= self.now + MISTAKEN

    def compare(self, decision) -> None:
        if self.since > self.now + MISTAKEN:
            assert decision.brought_back and decision.run == ()
            assert float(decision.becomes) <= self.now + 0.001
            self.last, self.ran = decision.becomes, []
            return
        due = self.due()
        if not due:
            assert decision is None
            return
        job = self.job
        allowed = PUNCTUAL if job.misfire is Misfire.SKIP else max(job.grace, PUNCTUAL)
        kept = due[-MOST:] if job.misfire is Misfire.ALL else due[-1:]
        run = [tick for at, tick in kept if self.now - at <= allowed]
        if not job.overlap:
            run = run[-1:]
        assert [each / 1000 for each in decision.run] == [round(tick, 3) for tick in run]
        assert decision.becomes == text_of_tick(due[-1][1])
        missed = len(due) - len(run)
        assert decision.missed == missed or (decision.at_least and decision.missed < missed)
        self.last = decision.becomes
        self.ran += run

    @invariant()
    def no_tick_ran_twice(self) -> None:
        assert self.ran == sorted(set(self.ran))
        assert not self.ran or self.ran[-1] <= self.since + 0.0005


TestCron = Cron.TestCase
TestCron.settings = settings(max_examples=examples(150), stateful_step_count=15)


def test_the_model_sees_what_it_should():
    """A fixed hour once, an elapsed one each time: on the day on which Berlin has 25 hours."""
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)
    end = begin + timedelta(hours=25)
    zone = ZoneInfo("Europe/Berlin")
    assert len(model("30 2 * * *", zone, begin, end)) == 1
    assert len(model("30 */2 * * *", zone, begin, end)) == 13
