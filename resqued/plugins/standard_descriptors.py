"""Opens the descriptors 0, 1 and 2 again, which a hook may have closed.

What is opened next would else get their numbers: a channel as the standard output of a fork server,
a lock file in the place of the log. Runs in the arbiter and in fork servers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable


def restore(relatives: Iterable[int]) -> list[str]:
    """Open those that are closed; what was undone, for the log.

    relatives: pids of processes with the same ones, from which they are taken; else they lead to
    /dev/null. Three system calls if none is closed.
    """
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    for fd in closed:
        places = [f"/proc/{pid}/fd/{fd}" for pid in relatives]
        for place in (*places, os.devnull):
            with contextlib.suppress(OSError):  # a socket cannot be opened so; proc_pid_fd(5)
                opened = os.open(place, (os.O_WRONLY if fd else os.O_RDONLY) | os.O_APPEND)
                if opened != fd:
                    os.dup2(opened, fd)
                    os.close(opened)
                os.set_inheritable(fd, True)
                break
    return [f"closed descriptor {fd}" for fd in closed]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
