"""Which Redis a command is for: that of `--url`, of an arbiter, or of the usual variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from resqued.config import SETTINGS
from resqued.ctl.redis_of import RedisSettings, connect, redis_of
from resqued.exits import ExitCode
from resqued.logs.redaction import redact
from resqued.status import arbiters
from resqued.status.chosen import ChosenArbiter, NoArbiter, choose, summary_of

T = TypeVar("T")

_VARIABLES: Final = ("RESQUED_REDIS", "RQ_REDIS_URL")
_HOW: Final = "give --url, or name an arbiter with --pid FILE, --control PATH or --name NAME"

URL: Final = click.option(
    "-u", "--url", metavar="URL", help="This Redis, instead of that of the arbiter."
)


def choose_redis(url: str | None, named: Mapping[str, Any]) -> RedisSettings:
    """The URL that is given; else what the named arbiter tells, or all arbiters of this user, if
    they have one Redis; else that of the variables. named: how the arbiter is named. Raises
    NoArbiter."""
    if url is not None:
        return RedisSettings(_checked(url, "--url"))
    if any(value is not None for value in named.values()):
        return redis_of(choose(**named))
    told = {repr(each): pid for pid in arbiters.find() if (each := summary_of(pid).get("redis"))}
    if len(told) == 1:
        return redis_of(ChosenArbiter(next(iter(told.values())), "", os.getuid()))
    if len(told) > 1:
        raise NoArbiter(
            f"the arbiters of this user have {len(told)} different Redis; {_HOW}", ExitCode.USAGE
        )
    for variable in _VARIABLES:
        if given := os.environ.get(variable):
            return RedisSettings(_checked(given, variable))
    raise NoArbiter(f"no arbiter of this user runs, so it is not known which Redis; {_HOW}")


def _checked(url: str, source: str) -> str:
    try:
        return str(SETTINGS["redis"].kind.read(url))
    except ValueError as error:
        raise NoArbiter(f"{source}: {redact(str(error))}", ExitCode.USAGE) from None


def with_redis(context: click.Context, url: str | None, name: str, act: Callable[[Any], T]) -> T:
    """What `act` answers, given a client of the chosen Redis. An error is one line on standard
    error, and the command exits. name: of the connection."""
    try:
        settings = choose_redis(url, context.find_root().obj)
        client = connect(settings, name)
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)
    from resqued.broker.outages import NO_ANSWER

    try:
        return act(client)
    except BrokenPipeError:  # of standard output: redis-py has an error of its own
        raise
    except NO_ANSWER as error:
        click.echo(f"{settings.shown}: {redact(str(error))}", err=True)
        context.exit(ExitCode.NOT_RUNNING)
    finally:
        client.close()
