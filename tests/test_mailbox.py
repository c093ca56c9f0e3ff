"""The mailbox of signals, by itself."""

from __future__ import annotations

import os
import select
import signal

from resqued.mailbox import Mailbox


def test_what_was_looked_at_is_not_waited_for():
    """`holds` takes signals out of the pipe, so that a poll does not see them any more."""
    with Mailbox(frozenset({signal.SIGUSR1, signal.SIGUSR2})) as mailbox:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not mailbox.has_read_ahead
        assert select.select([mailbox], [], [], 5)[0]
        assert mailbox.holds(frozenset({signal.SIGUSR1}))
        assert not mailbox.holds(frozenset({signal.SIGUSR2}))
        assert not select.select([mailbox], [], [], 0)[0]
        assert mailbox.has_read_ahead
        assert mailbox.collect() == [signal.SIGUSR1]
        assert not mailbox.has_read_ahead
