"""The life of a worker, from its first instruction after the fork to its exit status."""

from __future__ import annotations

import gc
import importlib
import time
import traceback
from typing import Any, Final

from rq.utils import now, utcformat, utcparse
from rq.worker import BaseWorker, DequeueStrategy

from resqued import linux, logs
from resqued.broker import prerequisites
from resqued.broker.connection import make_connection
from resqued.broker.outages import NO_ANSWER
from resqued.broker.queues import REST
from resqued.broker.wire import sha_of
from resqued.exits import ExitCode
from resqued.logs import LogEvent
from resqued.logs.tracebacks import summary
from resqued.plugins.failures import HookFailed
from resqued.scoreboard import Phase, Reason
from resqued.verdicts import ConfigError
from resqued.worker.boot import EXIT_SLACK, Boot, reseed
from resqued.worker.classes import lookup
from resqued.worker.idle import TURN
from resqued.worker.registration import settle_name
from resqued.worker.signals import Signals
from resqued.worker.slot import WorkerSlot

_NOW: Final = 2.0  # seconds from a stop with `now` to the exit; after three it is killed
_LOOP_ENDED: Final = 70  # only the arbiter sees it; the record has the reason


def warm_up() -> None:
    """Do once what every worker would otherwise do itself, in memory of its own: compile RQ's date
    format, identify the machine, load the tables for encoding host names, and OpenSSL's hashes.
    Runs in the fork server, before the application is loaded. Opens no connection."""
    utcparse(utcformat(now()))
    "localhost".encode("idna")
    sha_of("")
    linux.machine()


def run(boot: Boot) -> int:
    """Run a worker until there is a reason to exit; the exit status. Never raises. Runs in a new
    child of a fork server; the caller ends the process with it (`os._exit`)."""
    slot = WorkerSlot(boot, Signals(boot.dumps))
    slot.signals.take_over()
    gc.enable()
    lookup.inherit_log_level()
    try:
        _live(slot, boot)
    except (HookFailed, ConfigError, ImportError) as error:
        logs.error(f"did not boot: {error}", LogEvent.WORKER_NOT_READY, reason=str(error))
        slot.leave(Reason.BOOT)
    except BaseException as error:
        text = "".join(traceback.format_exception(error)).rstrip()
        logs.error(
            f"did not boot: {summary(text)[0]}",
            LogEvent.WORKER_NOT_READY,
            reason=summary(text)[0],
            traceback=text,
        )
        slot.leave(Reason.BOOT)
    slot.announce_exit()
    if not slot.registered:
        slot.step(Phase.LEFT)
    slot.turn(_exit_time(slot) + EXIT_SLACK)
    slot.ring()
    if slot.reason is Reason.BOOT:
        return ExitCode.CONFIG
    return _LOOP_ENDED if slot.reason in (Reason.LOOP, Reason.UNREADABLE) else 0


def _exit_time(slot: WorkerSlot) -> float:
    """Seconds for what is registered for the process's exit. Less after a stop with `now`."""
    if not slot.signals.now_since:
        return slot.config.exit_timeout
    left = slot.signals.now_since + _NOW - time.monotonic()
    return max(0.0, min(left, slot.config.exit_timeout))


def _live(slot: WorkerSlot, boot: Boot) -> None:
    """Start the worker, and run it once Redis answers."""
    _come_up(slot)
    connection = make_connection(slot.config, slot.writer.record.name)
    outage = slot.outage()
    slot.on_ready = outage.over  # not before: a replica answers everything but writes
    while not _has_to_leave(slot):
        try:
            slot.missing_rights = prerequisites.check_rights(connection)
            settle_name(slot, connection, boot.arbiter)
            _serve(slot, boot, _make_worker(slot, boot, connection))
            return
        except NO_ANSWER as error:  # only before it is ready; later it waits
            outage.wait(error)


def _come_up(slot: WorkerSlot) -> None:
    """Call after_fork, and load the application if it was not preloaded."""
    slot.show("booting")
    reseed()
    slot.hooks.demand("after_fork", worker=slot.snapshot())
    slot.signals.install()  # after_fork may have changed them
    if not slot.config.preload_app:
        for module in slot.config.require:
            importlib.import_module(module)
        logs.repair()
    # This phase has no deadline: Redis may be away for long.
    slot.step(Phase.CONNECTING, limit=0)
    slot.show("connecting")
    slot.ring()


def _has_to_leave(slot: WorkerSlot) -> bool:
    slot.signals.alert = False
    if (reason := slot.stopping) is not Reason.NONE:
        slot.leave(reason)
    return slot.reason is not Reason.NONE


def _make_worker(slot: WorkerSlot, boot: Boot, connection: Any) -> BaseWorker:
    config = slot.config
    cls: Any = lookup.make_worker_class(config)
    worker: BaseWorker = cls.__new__(cls)
    # Before `__init__`, which may send heartbeats, and of a user's class takes no further argument.
    cls._resqued.place(worker, slot)
    cls.__init__(
        worker,
        [name for name in boot.queues if name != REST],
        **lookup.worker_arguments(config, slot.writer.record.name, connection),
    )
    return worker


def _serve(slot: WorkerSlot, boot: Boot, worker: Any) -> None:
    """RQ's loop; for a trial worker only its beginning and end."""
    config = slot.config
    if boot.trial:
        worker.bootstrap(None)
        while not _has_to_leave(slot):
            slot.turn()
            worker.heartbeat()
            slot.signals.sleep(min(TURN, slot.turn_limit / 4))
        worker.teardown()
        return
    worker.work(
        burst=config.burst,
        max_idle_time=config.max_idle_time,
        logging_level=None,
        # The steward enqueues due jobs, but a burst may end before it does.
        with_scheduler=config.with_scheduler and config.burst,
        dequeue_strategy=DequeueStrategy(config.dequeue_strategy),
    )
