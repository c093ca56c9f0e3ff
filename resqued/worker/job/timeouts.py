"""The timeout of a job: RQ's alarm, set at a fraction of its price."""

from __future__ import annotations

import signal

from rq.timeouts import UnixSignalDeathPenalty

from resqued.signals import DEFAULT, set_handler


class DeathPenalty(UnixSignalDeathPenalty):
    """As RQ's, but for `signal.signal`, which makes an enum of all that it is given and returns."""

    def setup_death_penalty(self) -> None:
        set_handler(signal.SIGALRM, self.handle_death_penalty)
        signal.alarm(self._timeout)

    def cancel_death_penalty(self) -> None:
        signal.alarm(0)
        set_handler(signal.SIGALRM, DEFAULT)
