"""Writes that are refused once a duty has a newer keeper."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from resqued.broker.bad_data import text_of
from resqued.broker.fencing import is_overtaken
from resqued.broker.keeper_locks import KEEPERS, duty_field, token_field

Refusal = Callable[[int, int | None], Exception]
"""Makes an exception of the token that is refused and the one in force; None: it is not known."""


@contextlib.contextmanager
def transaction(connection: redis.Redis, token: int, refusal: Refusal) -> Iterator[Pipeline]:
    """A transaction that is carried out if `token` is in force then, and if not raises `refusal`.

    Raises redis errors too. It watches the hash of all keepers, so that the keeper of another duty
    has it sent again, unseen.
    """
    with connection.pipeline() as pipeline:
        _watch(pipeline, token, refusal)
        yield pipeline
        commands = list(pipeline.command_stack)
        while commands:
            if not pipeline.watching:  # refused, or the block has executed it
                pipeline.command_stack = []
                _watch(pipeline, token, refusal)
                pipeline.command_stack = commands
            try:
                pipeline.execute()
            except WatchError as error:
                if not is_overtaken(error):
                    raise
            else:
                return


def _watch(pipeline: Pipeline, token: int, refusal: Refusal) -> None:
    pipeline.watch(KEEPERS)
    name: Any = pipeline.hget(KEEPERS, duty_field(token))
    if name is None:
        raise refusal(token, None)
    newest: Any = pipeline.hget(KEEPERS, token_field(text_of(name) or ""))
    if newest is None or int(newest) != token:
        raise refusal(token, None if newest is None else int(newest))
    pipeline.multi()
