"""How a process goes on while Redis does not answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from typing import ClassVar, Final, TypeVar

from redis.exceptions import RedisError

from resqued.broker import tls
from resqued.broker.refusals import Diagnosis, diagnose
from resqued.config import Config
from resqued.logs import logger, redact

T = TypeVar("T")

_LONGEST: Final = 2.0  # seconds between two attempts
_REFUSED: Final = 15.0  # the same, while Redis refuses us: nothing but a human will help
_REPEAT: Final = 60.0  # seconds between two log lines about one outage

NO_ANSWER: Final = (RedisError, ConnectionError, TimeoutError)
"""What a command raises when it was not, or may not have been, carried out."""


class Outage:
    """One stretch of time without Redis, as one loop lives through it: back-off, a thin log."""

    _explained: ClassVar[dict[str, float]] = {}  # kind of error, when this process has last met it

    def __init__(
        self,
        config: Config,
        sleep: Callable[[float], None] = time.sleep,
        *,
        quiet: bool = False,
    ) -> None:
        """quiet: to be told only to who wants to know everything."""
        self._url = config.redis
        self._longest = config.loop_timeout / 4
        self._sleep = sleep
        self._quiet = quiet
        self._began = 0.0
        self._logged = 0.0
        self._for_a_person = False  # what was told last
        self._pause = 0.05

    def wait(self, error: BaseException) -> None:
        """Tell of it at first and then once a minute; sleep a little longer each time."""
        now = time.monotonic()
        if not self._began:
            self._began = now
        diagnosis = diagnose(error)
        explained = self._is_explained(diagnosis.kind, now)
        if self._is_due(diagnosis, now):
            self._logged, self._for_a_person = now, diagnosis.for_a_person
            if not diagnosis.kind:
                diagnosis = tls.diagnose(self._url, error, min(1.0, self._longest / 4)) or diagnosis
            level = "DEBUG" if self._quiet else diagnosis.level
            text = diagnosis.brief if explained else diagnosis.text
            logger.log(level, f"redis {redact(self._url)} {text}")
        self._pause = _REFUSED if diagnosis.for_a_person else min(self._pause * 2, _LONGEST)
        # Not all at once: a server that comes back is met by every worker of every machine.
        self._sleep(min(self._pause, self._longest) * random.uniform(0.6, 1.0))

    def _is_explained(self, kind: str, now: float) -> bool:
        """Whether the remedy has been told lately: a worker lives through one failover in several
        places."""
        if not kind:
            return False
        met = self._explained.get(kind, -inf)
        self._explained[kind] = now
        return now < met + _REPEAT

    def _is_due(self, diagnosis: Diagnosis, now: float) -> bool:
        """Whether the log has to be told: at the beginning of each outage, then once a minute."""
        news = diagnosis.for_a_person and not self._for_a_person
        return news or not self._logged or now >= self._logged + _REPEAT

    @property
    def lasts(self) -> bool:
        """Redis has not answered since it last failed to."""
        return self._began > 0

    def over(self) -> None:
        """Redis has answered."""
        if self._began:
            away = time.monotonic() - self._began
            level = "DEBUG" if self._quiet else "INFO"
            logger.log(level, f"redis answers again after {away:.1f} s")
        self._began = self._logged = 0.0
        self._for_a_person = False
        self._pause = 0.05


def until_answered(call: Callable[[], T], outage: Outage, turn: Callable[[], None]) -> T:
    """Call until Redis has answered; the answer. turn: called after each failure."""
    while True:
        try:
            answer = call()
        except NO_ANSWER as error:
            outage.wait(error)
            turn()
        else:
            outage.over()
            return answer


class RetryPolicy:
    """A worker's: it waits as long as it takes.

    turn: says that the process is alive, and not stuck; given seconds, for so much longer than
    usual.
    """

    def __init__(self, config: Config, turn: Callable[[float], None]) -> None:
        self.config = config
        self._turn = turn

    def turn(self) -> None:
        """Alive, and not stuck. Called after each failure, and between the parts of long work."""
        self._turn(0.0)

    def allow(self, seconds: float) -> None:
        """The same, before what may take so many seconds: user code, the end of processes."""
        self._turn(seconds)

    def outage(self) -> Outage:
        """One stretch of time without Redis, which begins at its first `wait`."""
        return Outage(self.config)

    def until_answered(self, call: Callable[[], T]) -> T:
        """Call until Redis has answered; the answer."""
        return until_answered(call, self.outage(), self.turn)
