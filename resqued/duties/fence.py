"""Writes of a duty with `once="fleet"`, refused once there is a newer keeper."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis
    from redis.client import Pipeline


class Superseded(Exception):
    """Another process keeps the duty now, with a greater token: nothing was written.

    Let it pass, out of the function: the duty's process logs it and does not count it as a failure.
    """

    def __init__(self, token: int, newest: int | None = None) -> None:
        """token: the one that was refused. newest: of the keeper now; None: it is not known."""
        by = f": {newest} is" if newest is not None else " any more"
        super().__init__(f"token {token} is not in force{by}; nothing was written")
        self.token = token
        self.newest = newest


def fenced(connection: redis.Redis, token: int) -> AbstractContextManager[Pipeline]:
    """A transaction that is carried out only while `token` is the newest of its duty.

        with fenced(duty.connection, duty.token) as pipeline:
            pipeline.hset("report", mapping=rows)
            queue.enqueue(tell, pipeline=pipeline)

    The commands are sent when the block ends, all of them in one step with the check; what they
    answer is not returned. A block that raises sends nothing. Runs in any process: a job may be
    given the token as an argument. Raises Superseded, redis errors (after one of the connection the
    commands may have been carried out), and ValueError for a token of `once="arbiter"`, which is 0.
    """
    from resqued.broker.fence import transaction

    if token < 1:
        raise ValueError(f'token={token}: only a duty with once="fleet" has one')
    return transaction(connection, token, Superseded)
