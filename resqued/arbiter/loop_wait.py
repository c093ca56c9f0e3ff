"""How the arbiter's loop sleeps: until an event or a deadline, and how news is collected."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from resqued.arbiter.fork_servers import ForkServers
from resqued.mailbox import Mailbox

OVERSLEPT: Final = 3.0
"""Seconds by which a wait or a turn may be late before nothing is judged for a while."""

LONG: Final = 0.0005
"""Seconds that a turn takes with about fifty workers. Longer turns are followed by a pause: a turn
for each worker that starts would take time by the square of their number."""

COLLECTED: Final = 8
"""The pause, as a factor on the length of the last turn."""

LONGEST: Final = 0.1
"""Seconds that the pause takes at most. A signal ends it."""


@dataclass(frozen=True)
class Wakeup:
    """How a wait ended."""

    by_event: bool
    overslept: bool  # it took far longer than asked: a suspend, or a STOP
    ended: float  # when, monotonic


def wait(
    mailbox: Mailbox,
    servers: ForkServers,
    polled: Iterable[tuple[int, int]],
    until: float,
    took: float,
) -> Wakeup:
    """Sleep until a signal, a message, the doorbell, or `until` (seconds, monotonic).

    polled: other descriptors, with what to poll for. took: seconds that the last turn took.
    """
    now = time.monotonic()
    read_ahead = mailbox.has_read_ahead
    timeout = 0.0 if read_ahead else max(0.0, until - now)
    poll = select.poll()
    poll.register(mailbox, select.POLLIN)
    poll.register(servers.doorbell, select.POLLIN)
    for server in servers.running.values():
        if server.closed_at is None:
            wanted = select.POLLOUT if server.channel.backlog else 0
            poll.register(server.channel, select.POLLIN | wanted)
    for fd, wanted in polled:
        poll.register(fd, wanted)
    ready = poll.poll(timeout * 1000 + 1)
    if any(fd == servers.doorbell for fd, _ in ready):
        with contextlib.suppress(OSError):  # other code has read it, or closed it
            os.eventfd_read(servers.doorbell)
    ended = time.monotonic()
    overslept = ended - now > timeout + OVERSLEPT
    if took > LONG and ready and not any(fd == mailbox.fileno() for fd, _ in ready):
        signalled = select.poll()
        signalled.register(mailbox, select.POLLIN)
        signalled.poll(min(COLLECTED * took, LONGEST) * 1000)
    return Wakeup(bool(ready) or read_ahead, overslept, ended)
