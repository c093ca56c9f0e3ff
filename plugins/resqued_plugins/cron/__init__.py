"""Cron: `--cron myapp.cron` enqueues periodic jobs, each tick once, with any number of arbiters.

MODULE or FILE registers jobs, with `resqued.cron.register` or, unchanged, in the format of
`rq cron`. It is loaded in the fork server, after the application; a start, a reload and --check are
refused with all that is wrong in it. Jobs without a timezone of their own have --cron-timezone, or
the arbiter's. Nothing is enqueued with --burst.

A living `rq cron` with a job of the same name holds it back here, unless --cron-takeover is given.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from loguru import logger

from resqued import Config, ConfigError, Duties, Generation, Options, hookimpl
from resqued_plugins.cron.duty import EVERY, LIMIT, CronDuty

if TYPE_CHECKING:
    from resqued.cron.definition import Definition

GROUP = "Workers"

DEFINITIONS: tuple[Definition, ...] = ()
"""The jobs in force in this fork server and its children; empty in the arbiter."""

LOADED = 0.0
"""When they were loaded, on the monotonic clock."""


@hookimpl(tryfirst=True)  # so that a clash of names is an error of the other plugin
def add_options(options: Options) -> None:
    options.add(
        "--cron",
        many=True,
        metavar="MODULE|FILE",
        group=GROUP,
        help="Enqueue the periodic jobs that this registers, as rq cron does. Repeatable.",
    )
    options.add(
        "--cron-timezone",
        default=None,
        metavar="ZONE",
        group=GROUP,
        help="The zone of cron jobs that name none, such as Europe/Berlin. Default: the host's.",
    )
    options.add(
        "--cron-takeover",
        default=False,
        group=GROUP,
        help="Enqueue also the jobs that a living rq cron has by the same name.",
    )


@hookimpl(tryfirst=True)
def before_load(generation: Generation) -> None:
    """The application may import modules that register jobs."""
    if is_wanted(generation.config):
        from resqued.cron.registrations import watch_rq

        watch_rq()


@hookimpl(trylast=True)
def app_loaded(generation: Generation) -> None:
    global DEFINITIONS, LOADED
    DEFINITIONS = ()
    config = generation.config
    if not is_wanted(config):
        warn_of_idle(config)
        return
    from resqued.cron.load import BadCron, load, unserved

    try:
        found = load(
            config.cron,
            timezone=config.cron_timezone,
            serializer=config.serializer,
            warn=logger.warning,
        )
    except BadCron as error:
        count = "one error" if len(error.problems) == 1 else f"{len(error.problems)} errors"
        raise ConfigError("cron", "\n  ".join([count, *error.told()])) from None
    if not found:
        logger.warning(f"cron: no job is registered by {', '.join(config.cron)}")
    for text in unserved(found, [queue.name for queue in config.queues]):
        logger.warning(text)
    DEFINITIONS, LOADED = found, time.monotonic()


@hookimpl
def duties(duties: Duties) -> None:
    if DEFINITIONS:
        duties.add("cron", CronDuty(DEFINITIONS, LOADED), every=EVERY, limit=LIMIT)


def is_wanted(config: Config) -> bool:
    return bool(config.cron) and not config.burst


def warn_of_idle(config: Config) -> None:
    """Where jobs are registered and none is enqueued."""
    if config.cron:
        logger.info("cron: no periodic jobs with --burst")
        return
    module = sys.modules.get("resqued.cron.registrations")
    if module is not None and (found := module.taken()):
        from resqued.cron.checks import place_of

        logger.warning(
            f"cron: {len(found)} jobs registered with resqued.cron.register are not in force, the"
            f" first at {place_of(found[0])}; name the module: --cron MODULE"
        )
