"""One round: three arbiters, a stock worker, what is scheduled and what strikes, to the verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import redis

from harness.ledger import Ledger
from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import WaitedTooLong, pause, wait_for
from nemesis.history import percentile
from nemesis.schedule import check
from nemesis.schedule.arbiters import Arbiter, Launch, StockWorker, wait_until_up
from nemesis.schedule.check import Tally
from nemesis.schedule.plan import STOCK, Order, make_blows, make_orders
from nemesis.schedule.producer import Producer
from nemesis.schedule.striking import Striker

_READY = 3.0  # seconds from the start of all to the beginning
_EACH = 0.0005  # seconds, the same for a job
_SETTLE = 90.0  # seconds in which all that is due has to be done, once nothing strikes any more


@dataclass(frozen=True)
class Options:
    """What a round follows from."""

    seed: int = 1
    seconds: float = 25.0
    """As long as faults strike and jobs are due."""
    jobs: int = 600
    longest: float = 17.0
    """Seconds for which an arbiter is stopped, at most."""
    loss: float = 0.05
    """Share of requests that are lost, half of them with the request, half with the reply."""
    deploys: bool = False
    """Whether each load of an arbiter brings other definitions of the periodic jobs."""

    def replay(self) -> str:
        return (
            f"tests/nemesis/run-schedule --seed {self.seed} --seconds {self.seconds:g}"
            f" --jobs {self.jobs} --longest {self.longest:g} --loss {self.loss:g}"
            f"{' --deploys' if self.deploys else ''}"
        )


@dataclass
class Report:
    """How a round went. late: seconds from due to enqueued, of scheduled jobs and of ticks."""

    options: Options
    ticks: Tally = field(default_factory=Tally)
    scheduled: Tally = field(default_factory=Tally)
    stock: Tally = field(default_factory=Tally)
    cancelled: int = 0
    late: dict[str, list[float]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    paused: float = 0.0
    behind: float = 0.0
    """Seconds by which jobs were scheduled and cancelled later than planned, at most."""
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)
    """What went wrong besides."""

    @property
    def problems(self) -> list[str]:
        return [
            *self.trouble,
            *self.ticks.problems("tick"),
            *self.scheduled.problems("scheduled job"),
            *self.stock.problems("job of the stock worker"),
        ]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"seed {self.options.seed}{', deploys' if self.options.deploys else ''},"
                f" {self.seconds:.0f} s",
                _line("ticks", self.ticks, f"; wrong {len(self.ticks.wrong)}"),
                _line(
                    "scheduled jobs",
                    self.scheduled,
                    f"; cancelled {self.cancelled}, and ran {len(self.scheduled.wrong)}",
                ),
                _line("the stock worker's", self.stock, ""),
                *(
                    f"  late, {what}: p50 {percentile(late, 0.5):.2f}"
                    f" p99 {percentile(late, 0.99):.2f} most {max(late, default=0.0):.1f} s"
                    for what, late in self.late.items()
                ),
                "  faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items())),
                f"  stopped for {self.paused:.0f} s; scheduled {self.behind:.1f} s late at most;"
                f" {len(self.problems)} problems",
            ]
        )


def _line(what: str, tally: Tally, more: str) -> str:
    return (
        f"  {what}: expected {tally.expected}, enqueued {tally.enqueued},"
        f" missing {len(tally.missing)}, double {len(tally.double)}{more}"
    )


def play(
    options: Options,
    launches: Mapping[str, Launch],
    server: Server,
    proxy: Proxy,
    directory: Path,
    trouble: Callable[[], list[str]] = list,
) -> Report:
    """Start, strike, heal, wait, end, judge. All that was started has left then.

    launches: how to start each arbiter, by the names in `plan`. directory: of the stock worker.
    trouble: what there is to complain about at the end, of whoever has launched the arbiters.
    """
    began = time.monotonic()
    report = Report(options)
    orders = make_orders(options.seed, options.seconds, options.jobs)
    blows = make_blows(options.seed, options.seconds, options.longest)
    connection = server.connect()
    stock = StockWorker(directory, server.url)
    arbiters = {name: Arbiter(launch) for name, launch in launches.items()}
    threads: list[Striker | Producer] = []
    try:
        for arbiter in arbiters.values():
            arbiter.start()
        first = wait_for(lambda: check.first_ticks(connection), 30, "each periodic job")
        wait_until_up(list(arbiters.values()))
        begin = int(time.time() + _READY + options.jobs * _EACH)
        producer = Producer(connection, orders, begin)
        producer.prepare()
        left = begin - time.time()
        assert left > 0, f"all was scheduled {-left:.1f} s late: the machine is too slow"
        pause(left)
        until = time.monotonic() + options.seconds
        strikers = [Striker(each, blows[name], until) for name, each in arbiters.items()]
        proxy.lose(options.loss, options.seed)
        threads += [producer, *strikers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.faults["lost"] = proxy.losses
        proxy.lose(0.0)
        for striker in strikers:
            report.faults += striker.counts
            report.trouble += striker.problems
            report.paused += striker.paused
        report.behind = producer.late
        if producer.error is not None:
            report.trouble.append(f"producer: {producer.error!r}")
        report.trouble += _settle(connection, orders, set(producer.cancelled), stock)
    finally:
        for thread in threads:
            thread.stop()
        proxy.lose(0.0)
        report.trouble += _end(list(arbiters.values())) + stock.end()
    report.trouble += trouble()
    _judge(report, connection, orders, producer, stock, first, begin)
    report.seconds = time.monotonic() - began
    return report


def _settle(
    connection: redis.Redis, orders: list[Order], cancelled: set[str], stock: StockWorker
) -> list[str]:
    """Wait until all that is due is done."""
    healed = time.time()
    theirs = {order.job_id for order in orders if order.queue == STOCK} - cancelled
    problems = []
    for done, what in (
        (lambda: min(check.last_ticks(connection)) > healed, "ticks after the end"),
        (lambda: not check.waiting(connection), "all scheduled jobs to be moved"),
        (lambda: set(Ledger(stock.ledger).ended()) >= theirs, "the stock worker to be done"),
    ):
        try:
            wait_for(done, _SETTLE, what)
        except WaitedTooLong as error:
            problems.append(str(error))
    return problems


def _end(arbiters: list[Arbiter]) -> list[str]:
    problems = []
    running = [arbiter for arbiter in arbiters if arbiter.running]
    for step in (Arbiter.go_on, lambda arbiter: arbiter.tell("TERM"), Arbiter.wait_until_gone):
        for arbiter in running:
            try:
                step(arbiter)
            except AssertionError as error:
                problems.append(str(error))
    return problems


def _judge(
    report: Report,
    connection: redis.Redis,
    orders: list[Order],
    producer: Producer,
    stock: StockWorker,
    first: dict[str, int],
    begin: int,
) -> None:
    for job in check.read_ticks(connection, first):
        report.ticks.add(check.judge_ticks(job))
    ours = {order.job_id: order for order in orders if order.queue != STOCK}
    left, found = check.waiting(connection), check.enqueued(connection)
    cancelled = producer.cancelled.keys() & ours.keys()
    report.scheduled = check.judge_scheduled(ours.values(), cancelled, found, left)
    report.cancelled = len(cancelled)
    report.trouble += check.states(connection, found, "queued")
    report.trouble += check.states(connection, cancelled, "canceled")
    theirs = [order for order in orders if order.queue == STOCK]
    in_time = [each for each in theirs if _is_sure(each, begin, producer.cancelled)]
    gone = producer.cancelled.keys() & {order.job_id for order in in_time}
    ran = [each for each in Ledger(stock.ledger).ended() if each in {o.job_id for o in in_time}]
    report.stock = check.judge_scheduled(in_time, gone, ran, left)
    dues = {each: float(begin + order.due) for each, order in ours.items()}
    report.late = {
        "scheduled jobs": check.lateness(connection, {each: dues[each] for each in found}),
        "ticks": check.lateness(connection, check.tick_dues(connection)),
    }


def _is_sure(order: Order, begin: int, cancelled: Mapping[str, float]) -> bool:
    """Whether a job of the stock worker was cancelled long before it was due, or not at all."""
    return cancelled.get(order.job_id, 0.0) < begin + order.due - 1.0


def vary(options: Options, number: int) -> Options:
    """The options of the n-th of several rounds: every second with deploys."""
    deploys = options.deploys or number % 2 == 1
    return replace(options, seed=options.seed + number, deploys=deploys)
