"""Jobs with an argument of 100 kB, in this version and in 0.1: how many a second."""

from __future__ import annotations

import random
import string
from contextlib import ExitStack

from rq import Queue
from rq.queue import EnqueueData

from benchmarks import light, older
from benchmarks.bench import Bench
from benchmarks.burst import Load, in_turn
from benchmarks.report import at_least, ratio

BYTES = 100_000


def measure(bench: Bench) -> None:
    # letters at random: they can be compressed a little, as what applications send
    letters = string.ascii_letters + string.digits
    data = "".join(random.Random(1).choices(letters, k=BYTES))

    def large() -> EnqueueData:
        return Queue.prepare_data(light.take, (data,))

    with ExitStack() as stack:
        loads = [
            Load(stack.enter_context(system), bench.server.pid, large, seconds=bench.options.burst)
            for system in bench.versions(1)
        ]
        in_turn(loads, bench.options.rounds)
    section = "an argument of 100 kB"
    rates = {load.system.name: load.figures(lambda burst: burst.rate) for load in loads}
    checks = ratio(rates, "resqued", older.NAME, at_least(4))
    bench.table.add(section, "jobs a second, 1 worker", rates, checks)
    for role in ("worker", "server"):
        cpu = {
            load.system.name: load.figures(lambda burst, role=role: burst.cpu(role))
            for load in loads
        }
        bench.table.add(section, f"CPU of {role}, us a job", cpu)
