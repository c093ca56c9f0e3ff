"""How many cores this process may use: what `-n auto` means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """The cores in the affinity mask, or fewer by the quota of a control group; at least 1.

    root: where /proc and /sys are. Control groups of version 2 (`cpu.max`) and version 1
    (`cpu.cfs_quota_us`), its own and those above; fractions of a core are dropped.
    """
    cores = len(os.sched_getaffinity(0))
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([cores, *(int(quota) for quota in quotas)]))


def _quotas(root: Path) -> Iterator[float]:
    """Every quota for this process, in cores; a container may see its own group as the root."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            for group in _upwards(root / "sys/fs/cgroup", path):
                yield from _version_2(group)
        elif "cpu" in controllers.split(","):
            for folder in {controllers, "cpu"}:
                for group in _upwards(root / "sys/fs/cgroup" / folder, path):
                    yield from _version_1(group)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _version_2(group: Path) -> Iterator[float]:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _version_1(group: Path) -> Iterator[float]:
    quota = _read(group / "cpu.cfs_quota_us").strip()  # -1: none
    period = _read(group / "cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such controller, or it may not be read
