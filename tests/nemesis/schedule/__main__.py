"""Rounds by hand: `tests/nemesis/run-schedule --rounds 30`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil

from harness import processes
from harness.command import Resqued
from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import WaitedTooLong, wait_for
from nemesis.schedule.arbiters import EXPECTED_ERRORS, Launch, arguments
from nemesis.schedule.check import Tally
from nemesis.schedule.plan import KILLED, PAUSED, TURNED
from nemesis.schedule.rounds import Options, Report, play, vary

_SHOWN = 30  # problems of a round


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--rounds", type=int, default=1, help="each with the next seed")
    parser.add_argument("--seconds", type=float, default=120, help="that faults strike")
    parser.add_argument("--jobs", type=int, default=50_000, help="scheduled")
    parser.add_argument("--longest", type=float, default=90, help="seconds of a pause, at most")
    parser.add_argument("--loss", type=float, default=0.05, help="share of lost requests")
    parser.add_argument("--deploys", action="store_true", help="each load has other definitions")
    parser.add_argument("--keep", type=Path, help="directory for the logs of all rounds")
    words = vars(parser.parse_args())
    rounds, keep = words.pop("rounds"), words.pop("keep")
    first = Options(**words)
    processes.become_subreaper()
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    reports = []
    for number in range(rounds):
        reports.append(_round(vary(first, number), keep))
    _sum_up(reports)
    return int(any(report.problems for report in reports))


def _round(options: Options, keep: Path | None) -> Report:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"schedule-{options.seed}-", dir=keep))
    server = Server(directory, "--appendonly", "no")  # it is none of those that are struck
    server.start()
    proxy = Proxy(server.socket, directory / "proxy.sock")
    starts: list[Resqued] = []
    try:
        launches = {
            name: _launch(options, directory / name, proxy.url, starts)
            for name in (KILLED, PAUSED, TURNED)
        }
        report = play(
            options, launches, server, proxy, directory, lambda: _left(starts, server.pid)
        )
    finally:
        for each in _others(server.pid):
            each.kill()
        proxy.close()
        server.close()
    print(report, flush=True)
    if report.problems:
        print(*(f"    {problem}" for problem in report.problems[:_SHOWN]), sep="\n")
        print(f"    logs in {directory}; again: {options.replay()}", flush=True)
    return report


def _launch(options: Options, directory: Path, url: str, starts: list[Resqued]) -> Launch:
    numbers = iter(range(1, 1_000_000))

    def launch() -> Resqued:
        place = directory / f"{next(numbers):03}"
        place.mkdir(parents=True)
        starts.append(
            Resqued(
                arguments(options.deploys),
                directory=place,
                env={"RQ_REDIS_URL": url},
                expect_errors=EXPECTED_ERRORS,
            )
        )
        return starts[-1]

    return launch


def _left(starts: list[Resqued], server: int) -> list[str]:
    """Processes that are left, and complaints in the logs."""
    problems = []
    try:
        wait_for(lambda: not _others(server), 10, "all processes to end")
    except WaitedTooLong as error:
        problems += [str(error), *map(processes.describe, _others(server))]
    for each in starts:
        problems += [f"{each.directory}: {line}" for line in each.complaints()]
    return problems


def _others(server: int) -> list[psutil.Process]:
    processes.reap_adopted({server})
    return [each for each in processes.descendants() if each.pid != server]


def _sum_up(reports: list[Report]) -> None:
    total = Report(replace(reports[0].options, seed=0))
    print(
        f"\n{'seed':>5} {'':16}{'expected':>9}{'enqueued':>9}{'missing':>9}{'double':>9}{'ran':>6}"
    )
    for report in reports:
        _rows(str(report.options.seed), report)
        for name in ("ticks", "scheduled", "stock"):
            getattr(total, name).add(getattr(report, name))
        total.cancelled += report.cancelled
        total.faults += report.faults
    _rows("all", total)
    faults: Counter[str] = total.faults
    print("faults:", ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
    bad = sum(bool(report.problems) for report in reports)
    print(f"{len(reports)} rounds, {total.cancelled} cancelled; {bad} rounds with problems")


def _rows(seed: str, report: Report) -> None:
    """ran: cancelled jobs that were enqueued nevertheless."""
    for name in ("ticks", "scheduled", "stock"):
        tally: Tally = getattr(report, name)
        ran = len(tally.wrong) if name != "ticks" else 0
        print(
            f"{seed:>5} {name:16}{tally.expected:>9}{tally.enqueued:>9}"
            f"{len(tally.missing):>9}{len(tally.double):>9}{ran:>6}"
        )


if __name__ == "__main__":
    sys.exit(main())
