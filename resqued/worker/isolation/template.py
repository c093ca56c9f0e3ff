"""A process that a worker forks once, and that forks the children for its jobs while there is work.

A fork costs twice: page tables are copied, and then each page that one of the two processes writes
to. A worker writes to a thousand pages for each job, so it does not fork itself while jobs follow
one another. The template only waits for orders, and has done beforehand what is the same for all
children.

An order goes over a socket, with the child's ends of two pipes. The template waits for an ended
child only when it is told to, so that the worker may first end what that child has left.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from resqued import descendants, linux, logs, titles
from resqued.linux import identity
from resqued.worker.boot import Forge
from resqued.worker.context import Context
from resqued.worker.isolation.child import ChildExit, HasDescriptors, JobChild, Links
from resqued.worker.isolation.child_main import ChildMain
from resqued.worker.isolation.entry import IsolatedRunner, be_template, enter_again, who
from resqued.worker.isolation.frames import TOKEN, Pipe
from resqued.worker.isolation.parcel import Blanks
from resqued.worker.isolation.warm_up import warm_up

_ORDER: Final = struct.Struct(f"=ii{TOKEN}s")
"""The numbers of the pipes' ends in the worker, and a token."""

_BIRTH: Final = struct.Struct("=iq")
"""A new child: its pid, or a negative errno; its ticks."""

_PID: Final = struct.Struct("=i")
_WAIT, _REPORT, _FORK = b"B", b"T", b"F"
"""Orders: wait for these children; for this one, and report its exit; for these, and fork one."""

_FDS: Final = struct.Struct("=ii")
_ROOM: Final = socket.CMSG_SPACE(_FDS.size)

_MOMENT: Final = 0.002
_PATIENCE: Final = 2.0
"""Seconds for an answer; at-fork functions of the application may take some."""


class Template:
    """A template, as its worker sees it. Used in the worker."""

    def __init__(
        self, context: Context, runner: IsolatedRunner, forge: Forge, others: list[HasDescriptors]
    ) -> None:
        """Fork it. others: have descriptors that it must not keep. Raises OSError."""
        self._context = context
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ended: list[int] = []
        self._expected: list[JobChild] = []
        self._logs = _of_logs()
        self._ready = False
        self._ordered = 0.0
        """When a child was last ordered."""
        self.children = 0
        """How many are not waited for yet."""
        self.broken = False
        worker = os.getpid()
        runner.connection.unused()
        not_before = linux.boot_ticks()

        def live() -> int:
            be_template(context, runner, not_before)
            warm_up(context, runner, forge)
            gc.freeze()
            titles.child(context.slot.writer.slot, "next")
            with contextlib.suppress(ConnectionError):  # the worker is gone
                _serve(context, runner, forge, theirs, worker)
            return 0

        def abandon() -> None:
            for other in others:
                other.abandon()
            self._line.close()

        try:
            self.pid = forge.fork(live, abandon)
        except OSError:
            self._line.close()
            raise
        finally:
            theirs.close()

    @property
    def is_stale(self) -> bool:
        """Whether its children would differ from the worker."""
        return self.broken or self._logs != _of_logs()

    def order(self) -> JobChild:
        """Order a child that waits for its job; see `is_born`. Raises OSError."""
        links = Links.make()
        token = os.urandom(TOKEN)
        message = _ORDER.pack(links.up[0], links.down[1], token)
        ends = [links.up[1], links.down[0]]
        try:
            socket.send_fds(self._line, [_FORK + message + self._waits()], ends)
        except OSError:
            self.broken = True
            links.close()
            raise
        os.close(links.down[0])
        links.down = (-1, links.down[1])
        child = JobChild.create(self._context, 0, 0, links, token, ahead=True, template=self)
        self._expected.append(child)
        self._ordered = time.monotonic()
        self.children += 1
        return child

    def is_born(self, child: JobChild, *, at_once: bool = False) -> bool:
        """Whether an ordered child exists. Waits; at_once: not for a template that is not ready."""
        seconds = _MOMENT if at_once and not self._ready else _PATIENCE
        while child in self._expected and self._answer(seconds) is not None:
            pass
        return child.pid > 0 and child.pidfd >= 0

    def discard(self, pid: int) -> None:
        """Have it wait for an ended child, with the next order."""
        self._ended.append(pid)
        self.children -= 1

    def death(self, pid: int) -> ChildExit:
        """Have it wait for an ended child, and return its exit."""
        self.children -= 1
        reply = None
        with contextlib.suppress(OSError):
            self._line.send(_REPORT + _PID.pack(pid))
            while (reply := self._answer(_PATIENCE)) is not None and reply[:1] != [pid]:
                pass
        if not reply:  # the template has died, and the kernel has killed its children
            self.broken = True
            return ChildExit(signal.SIGKILL, None)
        return ChildExit(reply[1], resource.struct_rusage(reply[2]))

    def tend(self) -> None:
        """Send what is left to wait for."""
        if self._ended and not self.broken:
            try:
                self._line.send(_WAIT + self._waits(), socket.MSG_DONTWAIT)
            except OSError:
                self.broken = True

    def end(self) -> None:
        """End it, with the children that it still has."""
        self.tend()
        self._line.close()
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(self.pid)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(0 if self.broken else _PATIENCE * 1000)
            os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.broken = True

    def abandon(self) -> None:
        """In another child of the worker's: close the copy of its socket."""
        self._line.close()

    def _waits(self) -> bytes:
        ended, self._ended = self._ended, []
        return b"".join(map(_PID.pack, ended))

    def _answer(self, seconds: float) -> list[Any] | None:
        """The next answer; empty for a new child, which is noted. None: none came."""
        raw = b""
        if not self.broken:
            poll = select.poll()
            poll.register(self._line, select.POLLIN)
            if not poll.poll(seconds * 1000) and time.monotonic() < self._ordered + _PATIENCE:
                return None
            with contextlib.suppress(OSError):
                raw = self._line.recv(4096, socket.MSG_DONTWAIT)
        if not raw:
            self.broken = True
            return None
        if raw[:1] == _REPORT:
            reply: list[Any] = json.loads(raw[1:])
            return reply
        self._ready = True
        child = self._expected.pop(0)
        child.pid, child.ticks = _BIRTH.unpack(raw[1:])
        if child.pid <= 0:
            self.children -= 1
            return []
        try:
            child.pidfd = os.pidfd_open(child.pid)
        except OSError:  # out of descriptors
            self.broken = True
        return []


def _of_logs() -> list[object]:
    """Changes when the log files are reopened."""
    return [identity(fd) for fd in logs.files()]


# In the template.


def _serve(
    context: Context, runner: IsolatedRunner, forge: Forge, line: socket.socket, worker: int
) -> None:
    """Runs in the template, until the worker closes its end."""
    blanks, line_fd = Blanks(context), line.fileno()
    own = who(context.slot)

    def live() -> int:
        """The life of a child."""
        os.close(line_fd)
        enter_again(context, own)
        child_main.run_next()
        return 0

    while True:
        message, ancillary, _, _ = line.recvmsg(65536, _ROOM, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        kind, rest = message[:1], message[1:]
        if kind == _FORK:
            up, down, token = _ORDER.unpack_from(rest)
            rest = rest[_ORDER.size :]
            try:
                up_end, down_end = _FDS.unpack(ancillary[0][2])
            except (IndexError, struct.error):  # out of descriptors
                return
            pipes = Pipe(up_end, up, worker, os.O_WRONLY), Pipe(down_end, down, worker, os.O_RDONLY)
            runner.child_main = child_main = ChildMain(context, runner, forge, *pipes, token)
            child_main.blanks = blanks
            line.send(_FORK + _BIRTH.pack(*_fork_child(forge, live)))
            os.close(up_end)
            os.close(down_end)
        for (pid,) in _PID.iter_unpack(rest):
            try:
                _, status, usage = os.wait4(pid, 0)
            except ChildProcessError:  # an at-fork function of the application has reaped it
                status, usage = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
            if kind == _REPORT:
                line.send(_REPORT + json.dumps([pid, status, list(usage)]).encode())


def _fork_child(forge: Forge, live: Callable[[], int]) -> tuple[int, int]:
    """Fork a child and mark it; the values of `_BIRTH`."""
    not_before = linux.boot_ticks()
    try:
        pid = forge.fork_again(live)
    except OSError as error:
        return -(error.errno or 1), 0
    same = linux.boot_ticks() == not_before
    ticks = not_before if same else linux.birth_ticks(pid)
    descendants.mark_descendants(pid, ticks, of=pid)
    return pid, ticks
