"""Wait while Redis does not answer: ever longer, and with a log line once a minute."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from typing import ClassVar, Final, TypeVar

from redis.exceptions import RedisError

from resqued import logs
from resqued.broker import tls
from resqued.broker.bad_data import is_data_error
from resqued.broker.refusals import Diagnosis, diagnose
from resqued.config import Config
from resqued.logs import LogEvent, redact

T = TypeVar("T")

_LONGEST: Final = 2.0  # seconds between two attempts
_REFUSED: Final = 15.0  # the same, while Redis refuses the login: only a person can help
_OTHERS: Final = 3.0  # seconds until the steward has noticed an outage too
_REPEAT: Final = 60.0  # seconds between two log lines about one outage

NO_ANSWER: Final = (RedisError, ConnectionError, TimeoutError)
"""What a command raises when it was not carried out, or may not have been."""


def is_outage(error: BaseException) -> bool:
    """Whether Redis did not answer, or refused a command for another reason than its data."""
    return isinstance(error, NO_ANSWER) and not is_data_error(error)


class Outage:
    """One period without Redis, as seen by one loop: waits with back-off, and logs sparsely."""

    _explained: ClassVar[dict[str, float]] = {}
    """Kind of error: when this process last met it, after it had logged the remedy."""

    def __init__(
        self,
        config: Config,
        sleep: Callable[[float], None] = time.sleep,
        *,
        seen_elsewhere: Callable[[], bool] | None = None,
    ) -> None:
        """seen_elsewhere: whether the steward sees the outage too, which logs it for the whole
        arbiter; it is asked when a line is due, some seconds after the beginning. None: there is
        nobody else."""
        self._url = config.redis
        self._longest = config.loop_timeout / 4
        self._sleep = sleep
        self._seen_elsewhere = seen_elsewhere
        self._began = 0.0
        self._logged = 0.0
        self._told = False  # whether a line was logged for all to see
        self._needs_person = False  # whether what was logged last needs a person
        self._pause = 0.05

    def wait(self, error: BaseException) -> None:
        """Log the outage at first and then once a minute; sleep, each time a little longer."""
        now = time.monotonic()
        if not self._began:
            self._began = now
        diagnosis = diagnose(error)
        explained = self._is_explained(diagnosis.kind, now)
        if self._is_due(diagnosis, now):
            self._log(diagnosis, error, now, explained=explained)
        self._pause = _REFUSED if diagnosis.needs_person else min(self._pause * 2, _LONGEST)
        # At random times: else all workers of all machines would meet a returning server at once.
        self._sleep(min(self._pause, self._longest) * random.uniform(0.6, 1.0))

    def _log(
        self, diagnosis: Diagnosis, error: BaseException, now: float, *, explained: bool
    ) -> None:
        away = now - self._began
        since = f" (for {away:.0f} s)" if self._logged else ""
        self._logged, self._needs_person = now, diagnosis.needs_person
        quiet = self._seen_elsewhere is not None and self._seen_elsewhere()
        if not diagnosis.kind and not quiet:
            diagnosis = tls.diagnose(self._url, error, min(1.0, self._longest / 4)) or diagnosis
        text = diagnosis.brief if explained else diagnosis.text
        self._told = self._told or not quiet
        if diagnosis.kind and not quiet:
            self._explained[diagnosis.kind] = now
        url = redact(self._url)
        logs.at(
            "DEBUG" if quiet else diagnosis.level,
            f"redis {url} {text}{since}",
            LogEvent.REDIS_LOST,
            redis=url,
            reason=text,
            seconds=round(away, 3),
        )

    def _is_explained(self, kind: str, now: float) -> bool:
        """Whether the remedy was logged, and this goes on: several places meet one failover."""
        explained = now < self._explained.get(kind, -inf) + _REPEAT
        if explained:
            self._explained[kind] = now
        return explained

    def _is_due(self, diagnosis: Diagnosis, now: float) -> bool:
        """Whether to log now: at the beginning of an outage, and then once a minute."""
        if self._seen_elsewhere is not None and now < self._began + _OTHERS:
            return False
        news = diagnosis.needs_person and not self._needs_person
        return news or not self._logged or now >= self._logged + _REPEAT

    @property
    def lasts(self) -> bool:
        """Whether Redis has not answered since it last failed to."""
        return self._began > 0

    def over(self) -> None:
        """Redis has answered: log it, and reset the back-off."""
        if self._began:
            away = time.monotonic() - self._began
            logs.at(
                "INFO" if self._told else "DEBUG",
                f"redis answers again after {away:.1f} s",
                LogEvent.REDIS_BACK,
                redis=redact(self._url),
                seconds=round(away, 3),
            )
        self._began = self._logged = 0.0
        self._needs_person = self._told = False
        self._pause = 0.05


def until_answered(call: Callable[[], T], outage: Outage, turn: Callable[[], None]) -> T:
    """Repeat a call until Redis answers; the answer. turn: called after each failure."""
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
    """A worker's policy while Redis does not answer: it waits without limit. turn: notes on the
    worker's record that it is alive and not stuck; its argument is by how many seconds the deadline
    is extended beyond the usual."""

    def __init__(
        self,
        config: Config,
        turn: Callable[[float], None],
        seen_elsewhere: Callable[[], bool] | None = None,
    ) -> None:
        """seen_elsewhere: as for `Outage`."""
        self.config = config
        self._turn = turn
        self._seen_elsewhere = seen_elsewhere

    def turn(self) -> None:
        """Note that the process is alive: after each failure, and between parts of long work."""
        self._turn(0.0)

    def allow(self, seconds: float) -> None:
        """The same, before something that may take so many seconds, such as code of the user's."""
        self._turn(seconds)

    def outage(self) -> Outage:
        """A new Outage; it begins at its first `wait`."""
        return Outage(self.config, seen_elsewhere=self._seen_elsewhere)

    def until_answered(self, call: Callable[[], T]) -> T:
        """Repeat a call until Redis answers; the answer."""
        return until_answered(call, self.outage(), self.turn)
