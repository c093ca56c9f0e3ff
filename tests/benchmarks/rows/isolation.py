"""A child a job: `--isolation fork` beside `rq.Worker`, each with the application loaded before,
the light one and the heavy one. The CPU of children is counted. Bare forks say what is possible."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from rq import Queue

from benchmarks import heavy, light
from benchmarks.bench import Bench
from benchmarks.burst import Load, in_turn
from benchmarks.report import Target, at_least, at_most, ratio
from benchmarks.systems import Resqued, Separate
from harness.command import COMMAND

APPS = {"light": light, "heavy": heavy}

TARGETS: dict[str, tuple[Target, Target]] = {
    "light": (at_least(5), at_most(0.3)),
    "heavy": (at_least(3), at_most(0.5)),
}
"""To reach of the rate of `rq.Worker`, and of its CPU, by application."""


def measure(bench: Bench) -> None:
    words = shlex.split(bench.options.isolated_by)
    section = f"a child a job ({bench.options.isolated_by}), 1 worker"
    if not _known(words):
        bench.table.note(section, "this resqued has no such option")
        return
    for name, app in APPS.items():
        if bench.options.app not in (None, name):
            continue
        more, less = TARGETS[name]
        bench.server.clear()
        with ExitStack() as stack:
            systems = [
                stack.enter_context(bench.system(Resqued, 1, 1, app=app, words=words)),
                stack.enter_context(bench.system(Separate, 1, 2, app=app)),
            ]
            loads = [
                Load(
                    system,
                    bench.server.pid,
                    lambda app=app: Queue.prepare_data(app.nothing),
                    seconds=bench.options.burst * 2,
                )
                for system in systems
            ]
            in_turn(loads, bench.options.rounds)
        floor = _floor(app.__name__, bench.options.forks)
        rates = {load.system.name: load.figures(lambda burst: burst.rate) for load in loads}
        checks = ratio(rates, "resqued", Separate.name, more)
        figures = rates | {way: [rate] for way, (rate, _) in floor.items()}
        bench.table.add(section, f"{name} app, jobs a second", figures, checks)
        cpu = {load.system.name: load.figures(lambda burst: burst.cpu("tree")) for load in loads}
        checks = ratio(cpu, "resqued", Separate.name, less)
        figures = cpu | {way: [spent] for way, (_, spent) in floor.items()}
        bench.table.add(section, f"{name} app, CPU, us a job", figures, checks)


def _floor(app: str, forks: int) -> dict[str, tuple[float, float]]:
    """What forks of nothing reach: a second, and microseconds of CPU each."""
    command = [sys.executable, "-m", "benchmarks.floor", app, str(forks)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for way, rate, spent in map(str.split, lines):
        found[f"fork {way.replace('_', ' ')}"] = (float(rate), float(spent))
    return found


def _known(words: Sequence[str]) -> bool:
    page = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    return all(word.partition("=")[0] in page for word in words if word.startswith("-"))
