"""A thousand workers of one arbiter: how soon they are ready, what they use while idle, and how
long `resqued --status` and `resquedctl status` take."""

from __future__ import annotations

import subprocess
import time

from benchmarks.bench import Bench
from benchmarks.cost import Idleness
from benchmarks.report import Check, Spread, at_most
from benchmarks.systems import Resqued
from harness.command import BIN, COMMAND, environment

IDLE = {"worker": 3.0, "arbiter": 0.3, "steward": 0.5}
"""Percent of a core, at most, by role; all workers together."""

SETTLED = 5.0
"""Seconds after the last worker has come up."""


def measure(bench: Bench) -> None:
    workers = bench.options.crowd
    section = f"{workers} workers, heavy application"
    pid_file = bench.directory / "crowd.pid"
    bench.server.clear()
    with bench.system(Resqued, workers, words=("--pid", str(pid_file))) as system:
        _add(bench, section, "ready, s", [system.seconds_to_ready], 12)
        time.sleep(min(SETTLED, bench.options.idle))
        percent = Idleness.watch(system, bench.options.idle).percent
        for role, most in IDLE.items():
            what = f"idle CPU of {'all workers' if role == 'worker' else role}, % of a core"
            _add(bench, section, what, [percent.get(role, 0.0)], most)
        long, short = [COMMAND, "--status"], [str(BIN / "resquedctl")]
        for what, words, after, most in (
            ("resqued --status, s", long, [], 0.3),
            ("resquedctl status, s", short, ["status"], 0.15),
        ):
            words = [*words, "--pid", str(pid_file), *after]
            _add(bench, section, what, [_status(words) for _ in range(5)], most)


def _status(words: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(
        words,
        env=environment(),
        cwd="/",
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def _add(bench: Bench, section: str, what: str, figures: list[float], most: float) -> None:
    checks = [Check("", Spread.of(figures), at_most(most))]
    bench.table.add(section, what, {"resqued": figures}, checks)
