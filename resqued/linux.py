"""What Linux offers beyond Python's `os`: prctl, the OOM killer's preference, who a pid is."""

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
    """Have the kernel send us `signum` when the thread that started us ends; 0: nothing.

    A fork, a set-uid exec and any change of credentials clear it, so call it last. A parent that
    was gone before is not told of: compare `os.getppid()` afterwards. PR_SET_PDEATHSIG(2const).
    Raises OSError.
    """
    _call_prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Become the parent of every orphan among our descendants. Kept over exec, not over fork.

    PR_SET_CHILD_SUBREAPER(2const). Raises OSError.
    """
    _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)


def try_prctl() -> None:
    """Set what is set with prctl to what it is already. Raises OSError where that is forbidden.

    A filter may allow prctl and forbid single options, so each of those in use is tried.
    """
    for get, put in (
        (_PR_GET_CHILD_SUBREAPER, _PR_SET_CHILD_SUBREAPER),
        (_PR_GET_PDEATHSIG, _PR_SET_PDEATHSIG),
    ):
        value = ctypes.c_int()
        _call_prctl(get, ctypes.addressof(value))
        _call_prctl(put, value.value)


def raise_oom_score(points: int) -> None:
    """Make the OOM killer prefer us by `points` (of 1000) over what started us.

    Needs no privilege; children inherit it. Does nothing where /proc does not allow it.
    proc_pid_oom_score_adj(5).
    """
    # Not by pathlib: this runs in every worker right after its fork, and each page that its
    # machinery touches would be copied.
    with contextlib.suppress(OSError, ValueError):  # hardened; no reason not to work
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
    """Now, as `birth_ticks` counts: a process that is born from here on has at least this."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 10**9


def boot_ticks_at(wall: float) -> int:
    """The same for a moment of the wall clock (seconds since the epoch), if nobody has set it."""
    return boot_ticks() - max(0, round((time.time() - wall) * _TICKS))


@dataclass(frozen=True)
class Process:
    """A process as proc_pid_stat(5) has it. Two are the same if pid and ticks are."""

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
        """Neither a zombie nor gone."""
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
    """All that /proc shows us, by pid. Not one moment: they may fork and end meanwhile.

    Under hidepid those of other users are missing. skip: pids that are not looked at. About ten
    microseconds a process.
    """
    found: dict[int, Process] = {}
    for pid in pids():
        if pid not in skip:
            with contextlib.suppress(OSError, ValueError):
                found[pid] = Process.parse(_read(f"/proc/{pid}/stat"))
    return found


def pids() -> set[int]:
    """Of all processes that /proc shows us."""
    try:
        return {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()}  # noqa: PTH208
    except OSError:  # no descriptor is left, or there is no /proc
        return set()


_RLIMIT_LOCKS: Final = 10


def bear(mark: int, pid: int = 0) -> None:
    """Mark this process, or that of a pid, and with it all that descends from it from here on.

    The mark is the soft limit RLIMIT_LOCKS, which limits nothing since Linux 2.4.25: getrlimit(2).
    It is kept over fork, exec, setsid and the death of parents, and others can read it, which no
    environment variable, process group or session does. mark: at most 63 bits. Does nothing where
    it is not allowed (a hard limit, a sandbox).
    """
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(_RLIMIT_LOCKS)
        resource.prlimit(pid, _RLIMIT_LOCKS, (mark, hard))


def mark_of(pid: int) -> int | None:
    """What a process bears; None if nothing, or nobody may know. proc_pid_limits(5)."""
    try:
        _, _, rest = _read(f"/proc/{pid}/limits", 4096).partition(b"Max file locks")
        return int(rest.split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):  # `unlimited` is no number
        return None


def command_line(pid: int) -> bytes:
    """proc_pid_cmdline(5), at most 4 KiB; empty if there is none to see."""
    with contextlib.suppress(OSError):
        return _read(f"/proc/{pid}/cmdline", 4096)
    return b""


def birth_ticks(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 if it has ended, or is a zombie.

    A pid and this name one process for as long as the machine runs.
    """
    words = _stat(pid)
    return 0 if words[0] in (b"Z", b"X") else int(words[19])


def own_birth_ticks(not_before: int) -> int:
    """The same of this process, which has just been forked. not_before: `boot_ticks` before that;
    while it is the same now, /proc, which is slow, has nothing else to tell."""
    return not_before if boot_ticks() == not_before else birth_ticks(os.getpid())


class Life(enum.Enum):
    """What the kernel says of a process."""

    ALIVE = enum.auto()
    DEAD = enum.auto()
    FOREIGN = enum.auto()  # somebody else has this pid now, or /proc hides it: alive, most likely
    UNKNOWN = enum.auto()  # there is a process, and nothing says which


def life(pid: int, ticks: int) -> Life:
    """Whether the process that bore this pid, and began then (`birth_ticks`), still does.

    ticks: 0 if they could not be noted. Under hidepid (proc(5)), which is ProtectProc= in systemd,
    nothing is shown of other users' processes; but kill(2) tells those that are not there (ESRCH)
    from those that one may not signal (EPERM).
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
    """The same, of one of ours: only what is surely dead does not."""
    return life(pid, ticks) is not Life.DEAD


def is_stopped(pid: int) -> bool:
    """Whether it was stopped by a signal, SIGSTOP for one."""
    return _stat(pid)[0] == b"T"


def _stat(pid: int) -> list[bytes]:
    """proc_pid_stat(5) from the state on; that of a dead process when there is none."""
    try:
        raw = _read(f"/proc/{pid}/stat")
    except OSError:
        return [b"X"]
    return raw.rpartition(b")")[2].split()  # the name before it may hold anything


def _read(path: str, size: int = 1024) -> bytes:
    """The beginning of a small file, with as little machinery as can be. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def host_name() -> str:
    """Of this machine, as text that Redis can hold: it may be any bytes, sethostname(2)."""
    return socket.gethostname().encode(errors="replace").decode()


@functools.cache
def machine() -> str:
    """What tells where pids mean the same: this boot of this kernel, in this pid namespace.

    boot_id of proc_sys_kernel(5), and pid_namespaces(7).
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            boot = file.read().strip()
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:  # no /proc as we know it: then no other process is on our machine
        return os.urandom(6).hex()
    return hashlib.blake2s(b"%b %d" % (boot, space), digest_size=6).hexdigest()
