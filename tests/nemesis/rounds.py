"""One round: a system, a load and a plan of faults, from the start to the verdict."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import redis

from harness.ledger import Ledger
from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import WaitedTooLong, wait_for
from nemesis.check import Verdict, has_drained, has_settled, judge, leftovers
from nemesis.history import attempts, percentile, recovery_times
from nemesis.load import make_load
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

    def replay(self) -> str:
        words = [f"--seed {self.seed} --seconds {self.seconds:g} --jobs {self.jobs}"]
        words += [f"--workers {self.workers} --settle {self.settle:g} --every {self.every:g}"]
        words += ["--stock"] if self.stock else [f"--policy {self.policy}"]
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
            f" failed untold {len(verdict.failed)};"
            f" recovery p50 {percentile(times, 0.5):.2f}"
            f" p99 {percentile(times, 0.99):.2f} s of {len(times)};"
            f" {self.seconds:.1f} s"
        )


def play(options: Options, system: System, server: Server, proxy: Proxy, ledger: Path) -> Report:
    """Start the system, strike, heal, wait, judge. The system is left running.

    What a system promises is broken by each of the report's problems; of stock RQ none is asked.
    """
    began = time.monotonic()
    load = make_load(options.seed, options.jobs)
    plan = make_plan(options.seed, options.seconds, options.every)
    producer = Producer(str(server.socket), load, options.seconds)
    nemesis = Nemesis(plan, system, server, proxy)
    connection = server.connect()
    system.start()
    producer.start()
    try:
        nemesis.run()
    finally:
        nemesis.heal()
        producer.join(options.settle)
        producer.stop()
    problems = list(nemesis.problems)
    try:
        wait_for(lambda: has_drained(connection), 4 * options.settle, "all jobs to be begun")
        count = len(producer.taken)
        wait_for(lambda: has_settled(connection, count), options.settle, "all jobs to be done")
    except WaitedTooLong as error:
        problems.append(str(error))
    if not options.stock:
        problems += _wait_for_nothing_left(system, connection)
    history = attempts(Ledger(ledger).entries())
    verdict = judge(connection, producer.taken, history, nemesis.strikes, options.policy)
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


def _wait_for_nothing_left(system: System, connection: redis.Redis) -> list[str]:
    spare = system.left_registered()

    def left() -> list[str]:
        return leftovers(connection, system.registered(), spare)

    try:
        wait_for(lambda: not left(), 10, "nothing to be left in Redis")
    except WaitedTooLong:
        return left()
    return []


def vary(options: Options, number: int) -> Options:
    """The options of the n-th of several rounds: every fourth with resqued's default policy."""
    policy = "fail" if number % 4 == 3 else options.policy
    return replace(options, seed=options.seed + number, policy=policy)
