"""Jobs that do nothing, a second, beside other job queues: all stand ready on one server, each with
databases of its own, and take bursts in turn."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import light
from benchmarks.bench import Bench
from benchmarks.burst import Load
from benchmarks.contender import PEERS, Contender
from benchmarks.report import Target, at_least, ratio
from benchmarks.systems import Resqued

NAMES = list(PEERS)

TARGETS: dict[str, dict[int, Target]] = {
    "arq": {1: at_least(1.5), 2: at_least(1.5)},
    "celery": {1: at_least(1.5), 2: at_least(1.5)},
    "dramatiq": {1: at_least(1.5), 2: at_least(1.5)},
    "taskiq": {1: at_least(1.3), 2: at_least(1.3)},
    "huey": {1: at_least(1.15), 2: at_least(1.0)},
}
"""To reach of each one's rate, by the number of workers."""


def measure(bench: Bench) -> None:
    names = bench.options.peer or NAMES
    for workers in (1, 2):
        bench.server.clear()
        with ExitStack() as stack:
            system = stack.enter_context(bench.system(Resqued, workers, app=light))
            load = Load(system, bench.server.pid, light.plain, seconds=bench.options.burst)
            contenders = [
                stack.enter_context(_contender(bench, name, workers, 2 * number))
                for number, name in enumerate(names, 1)
            ]
            _in_turn(load, contenders, bench)
            versions = {contender.name: contender.version for contender in contenders}
        ours = load.figures(lambda burst: burst.rate)
        for contender in contenders:
            rates = {"resqued": ours, contender.name: contender.rates}
            checks = ratio(rates, "resqued", contender.name, TARGETS[contender.name][workers])
            bench.table.add(
                f"jobs that do nothing, a second, {workers} worker{'s'[: workers - 1]}",
                versions[contender.name],
                {"resqued": ours, "the other": contender.rates},
                checks,
            )


def _contender(bench: Bench, name: str, workers: int, database: int) -> Contender:
    port = bench.server.port
    urls = [f"redis://127.0.0.1:{port}/{number}" for number in (database, database + 1)]
    return Contender(PEERS[name], workers, urls, bench.directory)


def _in_turn(load: Load, contenders: list[Contender], bench: Bench) -> None:
    load.warm()
    for contender in contenders:
        contender.warm(100)
    for number in range(bench.options.rounds):
        turn = [load.burst, *(lambda c=c: c.burst(bench.options.burst) for c in contenders)]
        for burst in turn if number % 2 == 0 else turn[::-1]:
            burst()
