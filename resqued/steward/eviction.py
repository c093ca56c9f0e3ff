"""Whether Redis throws keys away when its memory is full: then it throws jobs away."""

from __future__ import annotations

from typing import Final

import redis
from redis.exceptions import ResponseError

from resqued.logs import logger

EVERY: Final = 600.0
"""Seconds between two looks: somebody may change it while we run."""


class Eviction:
    """The server's policy. Runs in the steward."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._told = ""

    def look(self) -> None:
        """Warn of a policy that evicts keys without expiry, once. Raises redis errors."""
        try:
            policy = str(self._connection.info("memory").get("maxmemory_policy", ""))
        except ResponseError:  # an ACL or a proxy does not let us ask
            return
        if policy != self._told and policy.startswith("allkeys"):
            logger.warning(
                f"redis evicts jobs and queues when its memory is full: maxmemory-policy is"
                f" {policy}; set it to noeviction"
            )
        self._told = policy
