"""Rounds by hand: `tests/nemesis/run --rounds 20`, and the same with `--stock` to compare."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psutil

from harness import command, processes
from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import WaitedTooLong, wait_for
from nemesis.history import percentile
from nemesis.load import STOCK
from nemesis.rounds import Options, Report, play, vary
from nemesis.systems import Pool, Resqued, System

_SHOWN = 30  # problems of a round


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--rounds", type=int, default=1, help="each with the next seed")
    parser.add_argument("--seconds", type=float, default=20, help="that faults strike")
    parser.add_argument("--jobs", type=int, default=800)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--every", type=float, default=0.35, help="seconds between two faults")
    parser.add_argument("--settle", type=float, default=60, help="seconds to wait for all jobs")
    parser.add_argument("--policy", choices=["fail", "requeue"], help="default: mostly requeue")
    parser.add_argument("--beside", action="store_true", help="others serve the same Redis")
    parser.add_argument("--stock", action="store_true", help="rq worker-pool instead")
    parser.add_argument("--keep", type=Path, help="directory for the logs of all rounds")
    words = vars(parser.parse_args())
    rounds, keep, policy = words.pop("rounds"), words.pop("keep"), words.pop("policy")
    first = Options(**words, policy=policy or "requeue")
    processes.become_subreaper()
    reports = []
    for number in range(rounds):
        options = vary(first, number) if policy is None else vary(first, 4 * number)
        reports.append(_round(options, keep))
    if rounds > 1:
        _sum_up(reports)
    return int(any(report.problems for report in reports))


def _round(options: Options, keep: Path | None) -> Report:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"nemesis-{options.seed}-", dir=keep))
    server = Server(directory)
    server.start()
    proxy = Proxy(server.socket, directory / "proxy.sock")
    try:
        ledger = directory / "ledger"
        system = _system(options, directory, proxy.url, ledger)
        beside = _neighbours(options, directory, proxy.url, ledger) if options.beside else []
        report = play(options, system, server, proxy, ledger, beside)
        report.problems += _end([system, *beside], server)
    finally:
        _kill_descendants(set())
        proxy.close()
        server.close()
    _write_strikes(report, directory / "strikes")
    print(report, flush=True)
    if report.problems:
        print(*(f"  {problem}" for problem in report.problems[:_SHOWN]), sep="\n")
        print(f"  logs in {directory}; again: {options.replay()}", flush=True)
    return report


def _write_strikes(report: Report, path: Path) -> None:
    """What struck when, and how long each interrupted job has waited."""
    lines = [
        f"{datetime.fromtimestamp(strike.wall):%H:%M:%S.%f} {strike}" for strike in report.strikes
    ]
    lines += [f"{job_id} recovered in {seconds:.3f}" for job_id, seconds in report.recovery.items()]
    path.write_text("\n".join(lines) + "\n")


def _system(options: Options, directory: Path, url: str, ledger: Path) -> System:
    if options.stock:
        return Pool(Pool.launch(options.workers, directory, url, ledger))
    numbers = iter(range(1, 1_000_000))

    def launch() -> command.Resqued:
        place = directory / f"start-{next(numbers):03}"
        place.mkdir()
        return command.Resqued(
            Resqued.arguments(options.workers, directory / "pid", options.policy),
            directory=place,
            env={"RQ_REDIS_URL": url, "RESQUED_LEDGER": str(ledger)},
            expect_errors=Resqued.EXPECTED_ERRORS,
        )

    return Resqued(launch)


def _neighbours(options: Options, directory: Path, url: str, ledger: Path) -> list[System]:
    """A second arbiter, and workers of RQ's that serve a queue which resqued serves as `*`."""
    (directory / "second").mkdir()
    second = _system(replace(options, workers=2), directory / "second", url, ledger)
    return [second, Pool(Pool.launch(1, directory, url, ledger, [STOCK]))]


def _end(systems: Sequence[System], server: Server) -> list[str]:
    """Each leaves after TERM, and with it all that it has started; no log has complaints."""
    if isinstance(systems[0], Pool):
        return []
    problems = []
    for system in systems:
        system.root.terminate()
    try:
        for system in systems:
            wait_for(lambda root=system.root: root.poll() is not None, 15, "the end after TERM")
            if system.root.returncode not in system.ends:
                problems.append(f"left with {system.root.returncode} after the last TERM")
        wait_for(lambda: not _others(server.pid), 10, "all processes to end")
    except WaitedTooLong as error:
        problems += [str(error), *map(processes.describe, _others(server.pid))]
    starts = [each for system in systems for each in system.starts]
    for each in starts:
        if isinstance(each, command.Resqued):
            problems += [f"{each.directory.name}: {line}" for line in each.complaints()]
    return problems


def _others(server: int) -> list[psutil.Process]:
    processes.reap_adopted({server})
    return [each for each in processes.descendants() if each.pid != server]


def _kill_descendants(spare: set[int]) -> None:
    for each in processes.descendants():
        if each.pid not in spare:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _sum_up(reports: list[Report]) -> None:
    times = [seconds for report in reports for seconds in report.recovery.values()]
    verdicts = [report.verdict for report in reports]
    print(
        f"{len(reports)} rounds: {sum(report.jobs for report in reports)} jobs,"
        f" {sum(not strike.skipped for report in reports for strike in report.strikes)} faults;"
        f" lost {sum(verdict.lost for verdict in verdicts)}"
        f" (nowhere {sum(len(verdict.nowhere) for verdict in verdicts)}),"
        f" run again {sum(len(verdict.again) for verdict in verdicts)},"
        f" came through twice {sum(len(verdict.twice) for verdict in verdicts)},"
        f" overlaps {sum(len(verdict.overlaps) for verdict in verdicts)},"
        f" failed untold {sum(len(verdict.failed) for verdict in verdicts)};"
        f" recovery p50 {percentile(times, 0.5):.2f} p99 {percentile(times, 0.99):.2f} s"
        f" of {len(times)}; {sum(bool(report.problems) for report in reports)} with problems"
    )


if __name__ == "__main__":
    sys.exit(main())
