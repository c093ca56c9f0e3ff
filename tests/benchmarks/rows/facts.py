"""What the steward's looks at many queues cost, in the steward and in Redis: a thousand busy
workers that serve two hundred queues, in each of which something waits."""

from __future__ import annotations

import time

import redis
from rq import Queue

from benchmarks.bench import Bench
from benchmarks.report import Check, Spread, at_most
from resqued.config import Config
from resqued.scoreboard import Phase, Record, RecordWriter, Scoreboard, StewardStatus
from resqued.scoreboard.counts import slot_table, totals
from resqued.steward import rates
from resqued.steward.measure import EVERY, SLOWLY, Measure
from resqued.steward.rates import EndedCounts

QUEUES = 200
SERVED = 3
"""By each worker."""

ROUNDS = 3
SLOW_OF = round(SLOWLY / EVERY)
"""One look of so many is at what changes slowly, too."""

READ_OF = round(rates.EVERY / EVERY)
"""With one look of so many the rates are read."""


def measure(bench: Bench) -> None:
    workers = bench.options.crowd
    bench.server.clear()
    connection = bench.server.connect()
    names = [f"queue{number}" for number in range(QUEUES)]
    board = Scoreboard.create()
    try:
        writers = _fill(connection, board, names, workers)
        looks = max(SLOW_OF, min(60, round(bench.options.idle * 2)))
        steward, server = [], []
        for _ in range(ROUNDS):
            used, took = _look(connection, board, writers, looks)
            steward.append(used / looks / EVERY * 100)
            server.append(took / looks / EVERY * 1000)
        began = time.process_time()
        totals(board)
        summed = (time.process_time() - began) * 1000
    finally:
        board.close()
        connection.close()
    section = f"{workers} workers, {QUEUES} queues with jobs"
    _add(bench, section, "the steward's looks, % of a core", steward, 0.2)
    _add(bench, section, "the looks in Redis, ms a second", server, 2)
    _add(bench, section, "all counts summed up, ms", [summed], 50)


def _fill(
    connection: redis.Redis, board: Scoreboard, names: list[str], workers: int
) -> list[RecordWriter]:
    """Jobs and registered workers in Redis, records and counts on the scoreboard."""
    board.set_steward_status(StewardStatus(serial=1))
    for name in names:
        Queue(name, connection=connection).enqueue("operator.add", 1, 2)
    writers = []
    with connection.pipeline(transaction=False) as pipeline:
        for number in range(1, workers + 1):
            pipeline.hset(f"rq:worker:{number}", "birth", "now")
            writers.append(RecordWriter(board, number, Record(phase=Phase.IDLE)))
            for place in range(SERVED):
                name = names[(number * SERVED + place) % len(names)]
                pipeline.sadd(f"rq:workers:{name}", f"rq:worker:{number}")
                slot_table(board, number).end(name, "finished", 0.1)
        pipeline.execute()
    return writers


def _look(
    connection: redis.Redis, board: Scoreboard, writers: list[RecordWriter], looks: int
) -> tuple[float, float]:
    """Seconds of CPU that the looks take here, and in Redis. All workers end a job between two."""
    measure = Measure(connection, board, Config(), 1)
    measure.step()
    ended = EndedCounts(board)  # in one second of a run there is no second reading of the rates
    here, there = 0.0, _cpu(connection)
    for number in range(looks):
        if number % SLOW_OF == 0:
            measure.look_slowly()
        for writer in writers:
            writer.update(done=writer.record.done + 1)
        began = time.process_time()
        measure.step()
        if number % READ_OF == 0:
            ended.read()
        here += time.process_time() - began
    return here, _cpu(connection) - there


def _cpu(connection: redis.Redis) -> float:
    used = connection.info("cpu")
    return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])


def _add(bench: Bench, section: str, what: str, figures: list[float], most: float) -> None:
    checks = [Check("", Spread.of(figures), at_most(most))]
    bench.table.add(section, what, {"resqued": figures}, checks)
