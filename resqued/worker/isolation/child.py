"""One child for a job, as its worker sees it: pipes, pid, exit."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import termios
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from resqued import descendants, linux
from resqued.descendants import EndedProcesses, Span
from resqued.signal_table import REOPEN
from resqued.worker.boot import Forge
from resqued.worker.context import Context
from resqued.worker.isolation.child_main import ChildMain
from resqued.worker.isolation.entry import IsolatedRunner, enter
from resqued.worker.isolation.frames import TOKEN, Frame, FrameReader, Pipe

if TYPE_CHECKING:
    from resqued.worker.isolation.template import Template

_SLACK: Final = 64 * 2**20  # bytes of a frame besides the result: meta, a traceback
_LOOK: Final = 0.005  # seconds between two checks where the kernel has no pidfd
_LIMIT: Final = 1.0
"""Seconds for the end of what a child has started, after SIGKILL."""


@dataclass
class ChildExit:
    """How a child has ended. status, rusage: as os.wait4 gives them."""

    status: int
    rusage: Any


class HasDescriptors(Protocol):
    """Something of the worker's with descriptors that its children must not keep."""

    def abandon(self) -> None:
        """In a new child: close its copies of them."""


@dataclass
class Links:
    """The four ends of two pipes. up: from the child; down: to it."""

    up: tuple[int, int]
    down: tuple[int, int]

    @classmethod
    def make(cls) -> Links:
        """Raises OSError."""
        up = os.pipe2(os.O_CLOEXEC)
        try:
            down = os.pipe2(os.O_CLOEXEC)
        except OSError:
            for fd in up:
                os.close(fd)
            raise
        os.set_blocking(up[0], False)
        return cls(up, down)

    def close(self) -> None:
        fds, self.up, self.down = (*self.up, *self.down), (-1, -1), (-1, -1)
        for fd in fds:
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


@dataclass
class JobChild:
    """A child that is not reaped yet. Used in the worker."""

    pid: int
    ticks: int
    links: Links
    reader: FrameReader
    pidfd: int
    since: int = 0
    """When it was given its job (`linux.boot_ticks`)."""
    until: float = 0.0
    """When it has to have ended, after its job; on the monotonic clock."""
    frames: list[Frame] = field(default_factory=list)
    ahead: bool = False
    """It was forked before its job was known."""
    alone: bool = False
    """It has started no process."""
    template: Template | None = None
    """The template that has forked it; None: the worker has."""

    @classmethod
    def create(
        cls, context: Context, pid: int, ticks: int, links: Links, token: bytes, **more: Any
    ) -> JobChild:
        """context: the worker's."""
        limit = context.slot.config.max_result + _SLACK
        return cls(pid, ticks, links, FrameReader(token, limit), -1, **more)

    @property
    def span(self) -> Span:
        """What it has started for its job."""
        return Span(self.pid, self.ticks, self.since)

    # Talking.

    def has_room(self, parcel: bytes) -> bool:
        """Whether a job's parcel fits into the pipe, which is enlarged up to the system's limit."""
        size, pipe = 8 + len(parcel), self.links.down[1]
        if size <= fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ):
            return True
        try:
            return size <= fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
        except (OSError, OverflowError):  # pipe(7): a megabyte, for all but root
            return False

    def hand_over(self, parcel: bytes) -> bool:
        """Give a job to a child that was forked ahead, and has room; False if it is gone."""
        message = len(parcel).to_bytes(8) + parcel
        try:
            return os.write(self.links.down[1], message) == len(message)
        except OSError:
            return False

    def send(self, word: dict[str, Any]) -> None:
        """Send what has become of the outcome, if the child still lives."""
        with contextlib.suppress(OSError):
            os.write(self.links.down[1], json.dumps(word).encode() + b"\n")

    @property
    def has_job(self) -> bool:
        """Whether an ended child had read its job from the pipe."""
        left = array("i", [0])
        fcntl.ioctl(self.links.down[1], termios.FIONREAD, left)
        return not left[0]

    def read(self) -> list[Frame]:
        """The frames sent since the last call."""
        return self.reader.read(self.links.up[0])

    # Its end.

    @property
    def has_ended(self) -> bool:
        """Whether it is a zombie, or was waited for by other code."""
        if self.template is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            return bool(poll.poll(0))
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return found is not None

    @property
    def descriptors(self) -> list[int]:
        """Descriptors to poll for its frames, and for its end."""
        return [fd for fd in (self.links.up[0], self.pidfd) if fd >= 0]

    @property
    def poll_interval(self) -> float:
        """Seconds after which to check it in any case."""
        return _LOOK if self.pidfd < 0 else 3600.0

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has come."""
        until = time.monotonic() + seconds
        poll = select.poll()
        if self.pidfd >= 0:
            poll.register(self.pidfd, select.POLLIN)
        while not self.has_ended:
            left = until - time.monotonic()
            if left <= 0:
                return False
            poll.poll(min(left, self.poll_interval) * 1000)
        return True

    def signal_reopen(self) -> None:
        """Make it reopen its logs."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, REOPEN)

    def kill(self) -> None:
        """SIGKILL it and its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)  # it may have left its group

    def dismiss(self) -> None:
        """End a child that has no job."""
        self.kill()
        self.wait(_LIMIT)
        self.reap()

    def end_descendants(self) -> EndedProcesses:
        """End what its job has started. Call it before the child is reaped."""
        return descendants.end(self.span, gentle=0, limit=_LIMIT)

    def reap(self) -> ChildExit:
        """Collect the exit of a child that has ended, and close its descriptors."""
        if self.template is not None:
            self.close()
            return self.template.death(self.pid)
        try:
            _, status, rusage = os.wait4(self.pid, 0)
        except ChildProcessError:  # other code has reaped it, with a wait for any child
            status, rusage = 0, None
        self.close()
        return ChildExit(status, rusage)

    def discard(self) -> None:
        """The same, when its exit does not matter."""
        if self.template is None:
            self.reap()
        else:
            self.close()
            self.template.discard(self.pid)

    def abandon(self) -> None:
        """In another child of the worker's: close the copies of its descriptors."""
        self.close()
        if self.template is not None:
            self.template.abandon()

    def close(self) -> None:
        self.links.close()
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.pidfd)
            self.pidfd = -1


def fork(
    context: Context,
    runner: IsolatedRunner,
    forge: Forge,
    others: list[HasDescriptors],
    live: Callable[[ChildMain], object],
    *,
    ahead: bool = False,
) -> JobChild:
    """Fork a child that runs `live`. Raises OSError. others: have descriptors that the child must
    not keep. ahead: its job is not known yet."""
    links = Links.make()
    token = os.urandom(TOKEN)
    parent = os.getpid()
    runner.connection.unused()
    not_before = linux.boot_ticks()

    def run_child() -> int:
        up = Pipe(links.up[1], links.up[0], parent, os.O_WRONLY)
        down = Pipe(links.down[0], links.down[1], parent, os.O_RDONLY)
        child_main = ChildMain(context, runner, forge, up, down, token)
        enter(context, runner, not_before, ahead=ahead)
        runner.child_main = child_main
        live(child_main)
        return 0

    def abandon() -> None:
        for other in others:
            other.abandon()
        os.close(links.up[0])
        os.close(links.down[1])

    try:
        pid = forge.fork(run_child, abandon)
    except OSError:
        links.close()
        raise
    os.close(links.down[0])
    links.down = (-1, links.down[1])
    ticks = not_before if linux.boot_ticks() == not_before else linux.birth_ticks(pid)
    child = JobChild.create(context, pid, ticks, links, token, ahead=ahead)
    with contextlib.suppress(OSError):  # a kernel, or a filter, without it
        child.pidfd = os.pidfd_open(pid)
    return child
