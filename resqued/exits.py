"""Exit codes of the command: sysexits, so that a service file can tell them apart."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What `resqued` exits with. `meaning` is its line in the documentation."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "stopped because it was asked to, or a burst is done"
    USAGE = 64, "wrong command line"
    NOT_RUNNING = 69, "--status: no such arbiter runs; with --ready: no worker is ready"
    GAVE_UP = (
        70,
        "before the first worker was ready, every slot had died three times; if killed by SIGKILL,"
        " six times in 15 s",
    )
    NO_SYSTEM = 71, "the system lacks or forbids what resqued needs: Linux, memfd, eventfd, prctl"
    CANNOT_CREATE = 73, "a file (pid file, log) cannot be created or written"
    TRY_LATER = 75, "already running, or left with jobs that the next start will recover"
    NO_PERMISSION = 77, "a file may not be read, or others could write to it"
    CONFIG = 78, "the configuration, a plugin or the application's import is wrong"
