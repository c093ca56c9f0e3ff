"""Periodic jobs: `register` declares one, in a module that `--cron` names.

Imports neither rq nor redis, and checks nothing yet: a module that registers jobs may be imported
anywhere, in a web server too, where its registrations mean nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resqued.cron import registrations

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from rq import Callback, RateLimit, Retry
    from rq.webhook import Webhook

__all__ = ["register"]


def register(
    func: Callable[..., Any] | str,
    queue_name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    interval: float | None = None,
    cron: str | None = None,
    *,
    name: str = "",
    timezone: str | ZoneInfo = "",
    misfire: str = "once",
    grace: float | None = None,
    overlap: str = "allow",
    jitter: float = 0.0,
    enabled: bool = True,
    job_timeout: int | str | None = None,
    result_ttl: int | str | None = None,
    ttl: int | str | None = None,
    failure_ttl: int | str | None = None,
    meta: Mapping[str, Any] | None = None,
    retry: Retry | None = None,
    at_front: bool = False,
    on_success: Callback | Callable[..., Any] | str | None = None,
    on_failure: Callback | Callable[..., Any] | str | None = None,
    on_stopped: Callback | Callable[..., Any] | str | None = None,
    description: str | None = None,
    webhooks: Sequence[Webhook] | None = None,
    rate_limit: RateLimit | None = None,
    **unknown: Any,
) -> None:
    """Declare a periodic job. It is in force in arbiters that load this module with `--cron`.

    func: a function at the top level of a module, a method, or a dotted name.
    interval: seconds between two runs, at least 1; it runs at once when it is first seen.
    cron: an expression of five fields, a sixth is seconds. Give either interval or cron.
    name: identifies the job, in all hosts and over deploys. Default: the dotted name of func.
    timezone: of `cron`, such as "Europe/Berlin". Default: `--cron-timezone`, else the arbiter's.
    misfire: what becomes of ticks that were missed while no arbiter was there. "once": the last of
        them runs if it is not older than grace; "skip": none; "all": each that is not older than
        grace, at most 100.
    grace: seconds. Default: one period, at least an hour and at most a day.
    overlap: "skip" enqueues nothing while the last job of this name has not ended.
    jitter: seconds by which each run is put off, from 0 to this; shorter than one period.
    enabled: False keeps the job known and enqueues nothing.
    The others are what RQ's `enqueue` takes; what is None is as there. unknown: any other argument
    is an error in the registration.

    Runs in any process that imports the module. What is wrong with a registration is found when an
    arbiter loads it (a start, a reload and --check are refused, with all errors). Raises
    RuntimeError in resqued's config file, and registrations.TooMany beyond 10,000 jobs.
    """
    arguments = dict(locals())
    registrations.add(arguments, sys._getframe(1))
