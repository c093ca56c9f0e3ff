"""Linux features that Python's `os` lacks: prctl, the OOM score, marks, and which process a pid
is."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import hashlib
import os
import resource
import socket
import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final, Self

from resqued.open_files import identity as identity

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37

# Looked up at import: a child that has just been forked should not have to load anything.
_prctl: Final = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_prctl.restype = ctypes.c_int


def _call_prctl(option: int, argument: int) -> None:
    if _prctl(option, argument, 0, 0, 0) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send this process `signum` when the thread that started it ends; 0: nothing.

    A fork, a set-uid exec and any change of credentials clear it, so call it last. If the parent
    has ended before, no signal comes: compare `os.getppid()` afterwards. PR_SET_PDEATHSIG(2const).
    Raises OSError.
    """
    _call_prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Become the parent of all orphaned descendants. Kept over exec, not over fork.
    PR_SET_CHILD_SUBREAPER(2const). Raises OSError."""
    _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)


def try_prctl() -> None:
    """Set each prctl option in use to the value that it has. Raises OSError where that is
    forbidden. A seccomp filter may allow prctl and forbid single options."""
    for get, put in (
        (_PR_GET_CHILD_SUBREAPER, _PR_SET_CHILD_SUBREAPER),
        (_PR_GET_PDEATHSIG, _PR_SET_PDEATHSIG),
    ):
        value = ctypes.c_int()
        _call_prctl(get, ctypes.addressof(value))
        _call_prctl(put, value.value)


def raise_oom_score(points: int) -> None:
    """Make the OOM killer prefer this process by `points` (of 1000) over its parent. Needs no
    privilege; children inherit it. Does nothing where /proc does not allow it.
    proc_pid_oom_score_adj(5)."""
    # Not with pathlib: this runs in every worker right after its fork, and would copy more pages.
    with contextlib.suppress(OSError, ValueError):  # forbidden; not needed for work
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            score = min(1000, int(os.read(fd, 16)) + points)
            os.pwrite(fd, b"%d" % score, 0)
        finally:
            os.close(fd)


def boot_clock() -> float:
    """Seconds on a clock that also counts while the machine is suspended. clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second


def boot_ticks() -> int:
    """The time now, as `birth_ticks` counts: a process started from here on has at least this."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 10**9


def boot_ticks_at(wall: float) -> int:
    """The same for a moment of the wall clock (seconds since the epoch), if that was not set
    since."""
    return boot_ticks() - max(0, round((time.time() - wall) * _TICKS))


@dataclass(frozen=True)
class Process:
    """A process as in proc_pid_stat(5). Two are equal if pid and ticks are."""

    pid: int
    name: str = field(compare=False)
    state: str = field(compare=False)
    parent: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)
    ticks: int

    def __str__(self) -> str:
        return f"pid={self.pid} {self.name}"

    @property
    def lives(self) -> bool:
        """Whether it is neither a zombie nor gone."""
        return self.state not in "ZXx"

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises ValueError."""
        pid, _, rest = raw.partition(b" (")
        name, _, rest = rest.rpartition(b") ")  # the name may hold anything
        words = rest.split()
        if len(words) < 20:
            raise ValueError(f"not of proc_pid_stat(5): {raw!r}")
        shown = "".join(c if c.isprintable() else "?" for c in name.decode(errors="replace"))
        state, numbers = words[0].decode(), [int(word) for word in words[1:20]]
        return cls(int(pid), shown, state, numbers[0], numbers[1], numbers[2], numbers[18])


def processes(skip: Container[int] = ()) -> dict[int, Process]:
    """All processes that /proc shows, by pid. Not a snapshot: they may fork and end meanwhile.
    Under hidepid those of other users are missing. skip: pids to skip. About ten microseconds per
    process."""
    found: dict[int, Process] = {}
    for pid in pids():
        if pid not in skip:
            with contextlib.suppress(OSError, ValueError):
                found[pid] = Process.parse(_read(f"/proc/{pid}/stat"))
    return found


def pids() -> set[int]:
    """The pids of all processes that /proc shows."""
    try:
        return {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()}  # noqa: PTH208
    except OSError:  # out of descriptors, or there is no /proc
        return set()


_RLIMIT_LOCKS: Final = 10


def set_mark(mark: int, pid: int = 0) -> None:
    """Mark this process, or that of a pid, and all that descends from it from then on.

    The mark is the soft limit RLIMIT_LOCKS, which limits nothing since Linux 2.4.25: getrlimit(2).
    Unlike an environment variable, a process group or a session, it is kept over fork, exec, setsid
    and the death of parents, and other processes can read it. mark: at most 63 bits. Does nothing
    where it is not allowed (a hard limit, a sandbox).
    """
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(_RLIMIT_LOCKS)
        resource.prlimit(pid, _RLIMIT_LOCKS, (mark, hard))


def mark_of(pid: int) -> int | None:
    """The mark of a process; None if it has none, or it cannot be read. proc_pid_limits(5)."""
    try:
        _, _, rest = _read(f"/proc/{pid}/limits", 4096).partition(b"Max file locks")
        return int(rest.split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):  # `unlimited` is no number
        return None


def command_line(pid: int) -> bytes:
    """proc_pid_cmdline(5), at most 4 KiB; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return _read(f"/proc/{pid}/cmdline", 4096)
    return b""


def birth_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if it has ended, or is a zombie. Pid
    and ticks together identify a process until the next boot."""
    words = _stat(pid)
    return 0 if words[0] in (b"Z", b"X") else int(words[19])


def own_birth_ticks(not_before: int) -> int:
    """The same for this process, which has just been forked. not_before: `boot_ticks` before the
    fork; while that is still the same now, /proc, which is slow, need not be read."""
    return not_before if boot_ticks() == not_before else birth_ticks(os.getpid())


class Life(enum.Enum):
    """What the kernel says about a process."""

    ALIVE = enum.auto()
    DEAD = enum.auto()
    FOREIGN = enum.auto()  # another user's process has this pid, or /proc hides it: probably alive
    UNKNOWN = enum.auto()  # a process exists, but its start is unknown


def life(pid: int, ticks: int) -> Life:
    """Whether the process that had this pid and start (`birth_ticks`) still lives.

    ticks: 0 if unknown. Under hidepid (proc(5)), which is ProtectProc= in systemd, other users'
    processes are not shown; but kill(2) distinguishes processes that do not exist (ESRCH) from
    those that may not be signalled (EPERM).
    """
    if pid <= 0:
        return Life.DEAD
    words = _stat(pid)
    if words[0] == b"Z":
        return Life.DEAD
    if words[0] != b"X":
        if ticks <= 0:
            return Life.UNKNOWN
        return Life.ALIVE if int(words[19]) == ticks else Life.DEAD
    try:
        os.kill(pid, 0)  # no signal is sent
    except ProcessLookupError:
        return Life.DEAD
    except PermissionError:
        return Life.FOREIGN
    except (OSError, OverflowError):
        return Life.UNKNOWN
    return Life.UNKNOWN


def lives(pid: int, ticks: int) -> bool:
    """Whether it may live: False only if it is surely dead."""
    return life(pid, ticks) is not Life.DEAD


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal, such as SIGSTOP."""
    return _stat(pid)[0] == b"T"


def _stat(pid: int) -> list[bytes]:
    """proc_pid_stat(5) from the state on; that of a dead process if there is none."""
    try:
        raw = _read(f"/proc/{pid}/stat")
    except OSError:
        return [b"X"]
    return raw.rpartition(b")")[2].split()  # the name before it may hold anything


def _read(path: str, size: int = 1024) -> bytes:
    """The beginning of a small file, without further system calls. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def host_name() -> str:
    """The name of this machine, as text for Redis: it may be any bytes, sethostname(2)."""
    return socket.gethostname().encode(errors="replace").decode()


@functools.cache
def machine() -> str:
    """Identifies where a pid is valid: this boot of this kernel, in this pid namespace. boot_id of
    proc_sys_kernel(5), and pid_namespaces(7)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            boot = file.read().strip()
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:  # no usable /proc: then assume that no other process is on this machine
        return os.urandom(6).hex()
    return hashlib.blake2s(b"%b %d" % (boot, space), digest_size=6).hexdigest()
