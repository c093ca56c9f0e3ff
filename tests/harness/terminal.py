"""A command on a terminal, and what is typed there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios

from harness.command import environment
from harness.waiting import wait_for


class Terminal:
    """A command on a terminal of 80 columns and 24 lines."""

    def __init__(self, command: str, *words: str, **env: str) -> None:
        self.shown = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            known = environment(TERM="xterm", COLUMNS="80", LINES="24", PYTHONUTF8="1") | env
            os.execve(command, [command, *words], known)
        size = struct.pack("HHHH", 24, 80, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)
        self._status: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read(self) -> bool:
        """What is there; False once it has ended."""
        if select.select([self._fd], [], [], 0.1)[0]:
            try:
                self.shown += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:
                return False
        return True

    def wait_for(self, text: str) -> None:
        wait_for(lambda: self.read() and text in self.shown, what=f"{text!r} on the terminal")

    def exit(self) -> int:
        wait_for(lambda: not self.read(), what="its end")
        self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status
