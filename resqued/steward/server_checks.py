"""Checks of the Redis server: its clock, and whether it evicts keys when its memory is full."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import redis
from redis.exceptions import ResponseError

from resqued import linux, logs
from resqued.config import Config
from resqued.logs import LogEvent, redact

CLOCK_EVERY: Final = 60.0
"""Seconds between two comparisons of the clocks."""

EVICTION_EVERY: Final = 600.0
"""Seconds between two checks of the eviction policy, which may be changed at any time."""

TOLERATED: Final = 5.0
"""Seconds by which this machine's clock may differ from that of Redis without a warning."""

DANGEROUS: Final = 30.0
"""Seconds ahead of Redis from which no maintenance is done here: RQ judges by the wall clock, and
would end jobs of other machines that are still running."""

_VERSIONS: Final = ("valkey_version", "redis_version")  # Valkey has both
_AGAIN: Final = 3600.0  # seconds between two warnings


def log_server(connection: redis.Redis, config: Config) -> None:
    """Log which server answers, and how fast: what the arbiter's first line cannot say. Runs in
    the first steward of an arbiter. Raises redis errors."""
    began = time.monotonic()
    connection.ping()
    round_trip = time.monotonic() - began
    version = "unknown"
    with contextlib.suppress(ResponseError):  # an ACL or a proxy forbids INFO
        found = connection.info("server")
        version = next((str(found[name]) for name in _VERSIONS if found.get(name)), version)
    url = redact(config.redis)
    logs.info(
        f"redis {url} answers in {round_trip * 1000:.1f} ms, version {version}",
        LogEvent.REDIS_ANSWERS,
        redis=url,
        redis_version=version,
        round_trip=round(round_trip, 6),
    )


class Clock:
    """Compares this machine's wall clock with that of Redis. Runs in the steward."""

    def __init__(self, connection: redis.Redis) -> None:
        self.ahead = 0.0
        """Seconds; negative when behind."""
        self._connection = connection
        self._logged: float | None = None  # when the last warning was logged

    @property
    def may_judge(self) -> bool:
        """Whether this clock is good enough to decide that a job is overdue."""
        return self.ahead < DANGEROUS

    def compare(self) -> None:
        """Measure the difference once; warn when it is large. Raises redis errors."""
        before = time.time()
        seconds, micros = self._connection.time()
        self.ahead = (before + time.time()) / 2 - (int(seconds) + int(micros) / 1e6)
        now = time.monotonic()
        if abs(self.ahead) <= TOLERATED:
            return
        if self._logged is not None and now < self._logged + _AGAIN:
            return
        self._logged = now
        way = "ahead of" if self.ahead > 0 else "behind"
        text = f"the clock of {linux.host_name()} is {abs(self.ahead):.0f} s {way} that of redis"
        if not self.may_judge:
            text += "; no maintenance is done here until it is right"
        logs.warning(
            f"{text}; jobs of other machines may look abandoned. Synchronize both (NTP)",
            LogEvent.REDIS_NOTICE,
        )


class Eviction:
    """Checks the server's eviction policy. Runs in the steward."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._logged = ""  # the policy of the last check

    def check(self) -> None:
        """Warn, once, of a policy that evicts keys without expiry. Raises redis errors."""
        try:
            policy = str(self._connection.info("memory").get("maxmemory_policy", ""))
        except ResponseError:  # an ACL or a proxy forbids INFO
            return
        if policy != self._logged and policy.startswith("allkeys"):
            logs.warning(
                f"redis evicts jobs and queues when its memory is full: maxmemory-policy is"
                f" {policy}; set it to noeviction",
                LogEvent.REDIS_NOTICE,
            )
        self._logged = policy
