"""A worker's death: what its parent saw, and what the recovery of its job needs.

The fork server that reaped the worker makes it, the arbiter completes it, and the recovery's child
reads it. As JSON it is sent over the channel and kept in the state directory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from resqued.scoreboard import Record

OUT_OF_MEMORY: Final = (
    "the kernel killed it: out of memory (raise the limit of its cgroup, run fewer workers, or"
    " replace them earlier with --max-memory)"
)
"""For the log and the job's failure."""


@dataclass(frozen=True)
class Death:
    """One dead worker."""

    slot: int
    status: int  # as os.wait4 gives it
    rusage: dict[str, float]  # utime and stime in seconds, maxrss in bytes
    record: Record  # the last that it wrote
    queues: tuple[str, ...]
    interrupted: bool = False  # the arbiter stopped it: its job goes back to the queue
    reason: str = ""  # why it was killed, for the log and the job's failure
    failure: str = ""  # what its job is to fail with, after Order.FAIL
    owner: str = ""  # as Redis names it (`broker.owner.Owner`); empty: a worker of this arbiter
    tries: int = 0  # recoveries of it that were begun and did not end
    cause: str = ""  # why the arbiter had told it to leave (`scoreboard.StopCause.word`), if it had
    out_of_memory: bool = False  # the kernel killed it (`oom_kills`), if resqued did not

    @property
    def name(self) -> str:
        """Unique among the deaths of one arbiter."""
        return self.owner or self.record.name

    def as_plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """The inverse of `as_plain`; fields of another version are left out.

        Raises KeyError, TypeError or ValueError for other JSON.
        """
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        values["record"] = Record.from_plain(plain["record"])
        values["queues"] = tuple(plain["queues"])
        return cls(**values)


@dataclass
class DeathLine:
    """A line of the log about a death, which waits for what becomes of the job; the fields of its
    event."""

    text: str
    by: float  # when it is logged all the same
    worker: int
    gen: int
    pid: int | None
    job: str | None
    queue: str | None
    function: str | None
    phase: str | None
    reason: str
    exit_code: int | None
    signal: str | None
    out_of_memory: bool
    jobs: int
    seconds: float
    next_try: float


def how_it_ended(status: int) -> str:
    """`signal 9`, `exit status 1`. status: as os.waitpid gives it."""
    signum = status & 0x7F
    return f"signal {signum}" if signum else f"exit status {status >> 8}"
