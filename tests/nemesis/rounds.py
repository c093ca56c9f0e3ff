"""One round: a system, a load and a plan of faults, from the start to the verdict."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import redis

from harness.ledger import Ledger
from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import WaitedTooLong, wait_for
from nemesis.check import Verdict, has_drained, has_settled, judge, leftovers
from nemesis.history import attempts, called, percentile, recovery_times
from nemesis.load import QUEUES, STOCK, Order, make_load
from nemesis.plan import make_plan
from nemesis.producer import Producer
from nemesis.striking import Nemesis, Strike
from nemesis.systems import System


@dataclass(frozen=True)
class Options:
    """What a round follows from."""

    seed: int = 1
    seconds: float = 8.0
    """As long as faults strike and jobs stream in."""
    jobs: int = 300
    workers: int = 4
    policy: str = "requeue"
    stock: bool = False
    settle: float = 30.0
    """Seconds that may pass, once the queues are empty, until all jobs are done."""
    every: float = 0.35
    """Seconds between two faults, on average."""
    beside: bool = False
    """A second arbiter and workers of RQ's serve the same Redis, and are not struck themselves."""

    def replay(self) -> str:
        words = [f"--seed {self.seed} --seconds {self.seconds:g} --jobs {self.jobs}"]
        words += [f"--workers {self.workers} --settle {self.settle:g} --every {self.every:g}"]
        words += ["--stock"] if self.stock else [f"--policy {self.policy}"]
        words += ["--beside"] if self.beside else []
        return f"tests/nemesis/run {' '.join(words)}"


@dataclass
class Report:
    """How a round went."""

    options: Options
    verdict: Verdict
    jobs: int
    strikes: list[Strike]
    recovery: dict[str, float]
    """Seconds, by the id of the job whose process was killed."""
    seconds: float
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict, options = self.verdict, self.options
        who = "stock" if options.stock else f"resqued {options.policy}"
        struck = Counter(strike.kind for strike in self.strikes if not strike.skipped)
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(struck.items()))
        times = list(self.recovery.values())
        return (
            f"seed {options.seed} {who}: {self.jobs} jobs, {struck.total()} faults"
            f" ({faults}; {len(self.strikes) - struck.total()} skipped): lost {verdict.lost}"
            f" (nowhere {len(verdict.nowhere)}, stuck {len(verdict.stuck)}),"
            f" waiting {len(verdict.waiting)},"
            f" wrong {len(verdict.wrong)}, run again {len(verdict.again)},"
            f" came through twice {len(verdict.twice)}, overlaps {len(verdict.overlaps)},"
            f" failed untold {len(verdict.failed)},"
            f" lost where stock workers serve too {len(verdict.lost_by_stock)};"
            f" recovery p50 {percentile(times, 0.5):.2f}"
            f" p99 {percentile(times, 0.99):.2f} s of {len(times)};"
            f" {self.seconds:.1f} s"
        )


def play(
    options: Options,
    system: System,
    server: Server,
    proxy: Proxy,
    ledger: Path,
    beside: Sequence[System] = (),
) -> Report:
    """Start the system, strike, heal, wait, judge. The system is left running.

    beside: others that serve the same Redis; only what is done to Redis strikes them, too.
    What a system promises is broken by each of the report's problems; of stock RQ none is asked.
    """
    began = time.monotonic()
    queues = (*QUEUES, STOCK) if beside else QUEUES
    load = make_load(options.seed, options.jobs, queues)
    plan = make_plan(options.seed, options.seconds, options.every)
    producer = Producer(str(server.socket), load, options.seconds)
    nemesis = Nemesis(plan, system, server, proxy)
    connection = server.connect()
    system.start()
    for other in beside:
        other.start()
    producer.start()
    try:
        nemesis.run()
    finally:
        nemesis.heal()
        producer.join(options.settle)
        producer.stop()
    problems = list(nemesis.problems)
    try:
        wait_for(
            lambda: has_drained(connection, queues), 4 * options.settle, "all jobs to be begun"
        )
        wait_for(
            lambda: has_settled(connection, producer.taken),
            options.settle,
            "all jobs to be done",
        )
    except WaitedTooLong as error:
        problems.append(str(error))
    if beside:
        with contextlib.suppress(WaitedTooLong):  # some may be lost there
            wait_for(lambda: has_settled(connection, producer.taken, [STOCK]), 10)
    if not options.stock:
        problems += _wait_for_nothing_left([system, *beside], connection, load)
    entries = Ledger(ledger).entries()
    history = attempts(entries)
    verdict = judge(
        connection, producer.taken, history, nemesis.strikes, options.policy, called(entries)
    )
    times = recovery_times(history, nemesis.strikes, verdict.ended_at)
    return Report(
        options,
        verdict,
        len(producer.taken),
        nemesis.strikes,
        times,
        time.monotonic() - began,
        [] if options.stock else problems + verdict.problems(),
    )


def _wait_for_nothing_left(
    systems: Sequence[System], connection: redis.Redis, load: Sequence[Order]
) -> list[str]:
    spare = sum(system.left_registered() for system in systems)
    theirs = None
    if len(systems) > 1:
        theirs = {order.job_id for order in load if order.queue == STOCK}

    def left() -> list[str]:
        living = set[int]().union(*(system.registered() for system in systems))
        return leftovers(connection, living, spare, theirs)

    try:
        wait_for(lambda: not left(), 10, "nothing to be left in Redis")
    except WaitedTooLong:
        return left()
    return []


def vary(options: Options, number: int) -> Options:
    """The options of the n-th of several rounds: every fourth with resqued's default policy,
    every third with others beside it."""
    policy = "fail" if number % 4 == 3 else options.policy
    beside = options.beside or (number % 3 == 2 and not options.stock)
    return replace(options, seed=options.seed + number, policy=policy, beside=beside)
