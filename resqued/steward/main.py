"""The steward's loop: RQ's commands, heartbeats and periodic tasks for an arbiter's workers.

It runs no user code and takes no job. It exits when a newer steward has said hello. When the
arbiter is gone it stays until the last worker has ended, since without heartbeats another arbiter
would take the workers for dead.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from resqued import linux, logs, titles
from resqued.broker.bad_data import abbreviate
from resqued.broker.connection import answer_time, make_connection
from resqued.broker.outages import NO_ANSWER, Outage
from resqued.broker.owner import NO_ARBITER
from resqued.broker.queues import REST
from resqued.broker.refusals import is_cured_by_connecting
from resqued.child_loop import run_loop
from resqued.config import Config
from resqued.death import Death
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.messages import Recover
from resqued.scoreboard import LONGEST_ID, Phase, Record, StewardStatus
from resqued.signal_table import InSteward, row_of
from resqued.steward import dependents, fleet, measure, schedule, schedule_facts, server_checks
from resqued.steward.boot import StewardBoot
from resqued.steward.commands import CommandSubscription
from resqued.steward.dead_workers import DeadWorkers
from resqued.steward.dependents import Dependents
from resqued.steward.fleet import FleetMembership
from resqued.steward.heartbeats import Heartbeats, living
from resqued.steward.intake import Intake
from resqued.steward.measure import Measure
from resqued.steward.schedule import Schedule, Unscheduled
from resqued.steward.schedule_facts import ScheduleWatch
from resqued.steward.server_checks import Clock, Eviction, log_server
from resqued.steward.strays import Left, Strays
from resqued.steward.task import Task

TURN: Final = 1.0
"""Seconds between two turns of the loop, at most, while Redis answers."""

_ASK_AGAIN: Final = 60.0  # seconds until a recovery without effect is requested again


def run(boot: StewardBoot) -> int:
    """Be the steward until told to leave; the exit status. Never raises. See `run_loop`."""
    titles.steward()
    return run_loop(
        lambda mailbox: Steward(boot, mailbox).serve(),
        "the steward failed; another is started",
        LogEvent.STEWARD_NOTICE,
    )


class Steward:
    """The state of the loop; `serve` runs it."""

    def __init__(self, boot: StewardBoot, mailbox: Mailbox) -> None:
        config = boot.config
        self._boot = boot
        self._mailbox = mailbox
        self._status = StewardStatus(serial=boot.serial)
        self._arbiters_birth = linux.birth_ticks(boot.arbiter)
        self._leaving = self._signing_off = False
        name = f"{config.name or boot.identity}.steward"
        connection = self._connection = make_connection(config, name, "INFO")
        prefix = config.name or f"{boot.identity}."
        answer = answer_time(config)
        self._commands = CommandSubscription(connection, boot.board, prefix, answer)
        self._heartbeats = Heartbeats(connection, boot.board, config, boot.identity, boot.arbiter)
        strays = Strays(boot.board, boot.identity, max(config.loop_timeout, 2.0))
        self._dead_workers = DeadWorkers(connection, boot.identity, config.dead_after, strays)
        registration = self._heartbeats.registration
        self._fleet = FleetMembership(
            connection, boot.board, config, boot.identity, boot.arbiter, registration
        )
        self._intake = Intake(connection, boot, registration)
        self._measure = Measure(connection, boot.board, config, boot.serial)
        self._dependents = Dependents(connection, config.serializer)
        self._clock = Clock(connection)
        self._eviction = Eviction(connection)
        self._schedule = (
            Schedule(connection, config, boot.identity, answer)
            if config.with_scheduler and not config.burst
            else None
        )
        self._watch = ScheduleWatch(connection, self._schedule, config)
        self._outage = Outage(config, self._sleep)  # logged for all workers
        self._asked: dict[Left, float] = {}  # until when no second recovery is requested
        self._tasks = self._make_tasks(config)

    def _make_tasks(self, config: Config) -> list[Task]:
        """The tasks, in the order in which they are done when all are due."""
        tasks = [
            Task("hear commands", self._commands.open, TURN),
            Task("send heartbeats", self._beat, self._heartbeats.every),
            Task("say hello", self._say_hello, TURN),
            Task("read the paused queues", self._intake.read, TURN),
            Task("measure the queues", self._measure_all, measure.EVERY),
            Task("look for idle workers that sleep", self._look, TURN),
            Task("enter the fleet", self._fleet.enter, fleet.EVERY),
            Task("compare clocks", self._clock.compare, server_checks.CLOCK_EVERY),
            Task("look for an eviction policy", self._eviction.check, server_checks.EVICTION_EVERY),
            Task("find the dead", self._find_the_dead, self._dead_workers.every),
            Task("deregister the dead", self._dead_workers.tidy, self._dead_workers.tidy_every),
            Task("enqueue dependents", self._dependents.look, dependents.EVERY),
            Task(
                "ask for maintenance",
                self._ask_for_maintenance,
                float(config.maintenance_interval),
            ),
        ]
        if self._schedule is not None:
            tasks.append(Task(schedule.TASK, self._schedule.step, schedule.TURN, early=0.0))
        elif not config.with_scheduler:
            check = Unscheduled(self._connection, config).check
            tasks.append(Task("look for scheduled jobs", check, schedule.CHECK_EVERY))
        if self._watch.has_cron:
            look = self._watch.look
            tasks.append(Task("look at the periodic jobs", look, schedule_facts.EVERY))
        return tasks

    def serve(self) -> None:
        """Turn after turn, until there is a reason to leave."""
        while not self._leaving:
            self._write(turned=time.monotonic())
            self._boot.link.flush()
            if self._is_superfluous():
                break
            try:
                self._turn()
                self._outage.over()
            except NO_ANSWER as error:
                self._measure.note_outage(error)
                if is_cured_by_connecting(error):
                    self._commands.close()  # a subscription there may receive nothing
                self._outage.wait(error)
                continue
            self._wait()
        self._leave()

    def _turn(self) -> None:
        self._hear()
        for task in self._tasks:
            if self._leaving:
                break
            task.attempt()
        self._hear()  # what arrived during the tasks

    def _hear(self) -> None:
        for command in self._commands.hear():
            self._boot.link.send(command)
        if self._schedule is not None and (due := self._schedule.hear()) is not None:
            for task in self._tasks:
                if task.name == schedule.TASK:
                    task.due = min(task.due, due)

    def _wait(self) -> None:
        """Until the next task, a signal or a command."""
        due = min(task.due for task in self._tasks)
        descriptors = self._commands.descriptors
        if self._schedule is not None:
            descriptors += self._schedule.descriptors
        self._poll(max(0.0, min(TURN, due - time.monotonic())), descriptors)

    def _sleep(self, seconds: float) -> None:
        """Wait while Redis does not answer. A signal ends the wait."""
        self._poll(min(TURN, seconds), ())

    def _poll(self, seconds: float, also: Sequence[int]) -> None:
        poll = select.poll()
        for fd in (self._mailbox.fileno(), *also):
            poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000 + 1)
        for signum in self._mailbox.collect():
            self._signalled(row_of(signum).steward)

    def _signalled(self, effect: InSteward) -> None:
        match effect:
            case InSteward.REOPEN:
                logs.reopen()
            case InSteward.LEAVE:
                self._leaving = True
            case InSteward.SIGN_OFF:
                self._leaving = self._signing_off = True
            case InSteward.WAKE | InSteward.IGNORE | InSteward.DEFAULT:
                pass
            case _:
                assert_never(effect)

    # Whether it is still needed.

    def _is_superfluous(self) -> bool:
        """A newer one has said hello, or neither the arbiter nor a worker is left."""
        if self._boot.board.steward_status().serial > self._boot.serial:
            return True
        if linux.lives(self._boot.arbiter, self._arbiters_birth):
            return False
        self._signing_off = True
        return not any(True for _ in living(self._boot.board))

    def _leave(self) -> None:
        """Release locks and registrations, which time out if Redis does not answer."""
        try:
            if self._signing_off:
                if self._schedule is not None:
                    self._schedule.stop()
                self._watch.leave(self._boot.identity)
                self._heartbeats.sign_off()
                self._fleet.leave()
        except NO_ANSWER as error:
            logs.debug(f"not signed off: {error}")
        self._commands.close()
        if self._schedule is not None:
            self._schedule.close()
        self._boot.link.flush()

    # Periodic tasks.

    def _beat(self) -> None:
        self._commands.check()
        suspended = self._heartbeats.beat()
        self._write(beaten=time.monotonic(), suspended=suspended)

    def _say_hello(self) -> None:
        """Report that this steward works: the one before it may exit."""
        board = self._boot.board
        if board.steward_status().serial == 0:
            log_server(self._connection, self._boot.config)
        if board.steward_status().serial < self._boot.serial:
            board.set_steward_status(self._status)
            os.eventfd_write(self._boot.doorbell, 1)

    def _measure_all(self) -> float:
        if (told := self._watch.as_plain()) is not None:
            self._measure.note_schedule(told)
        return self._measure.step()

    def _look(self) -> None:
        self._write(suspended=self._intake.wake(self._measure.just_seen()))

    def _ask_for_maintenance(self) -> None:
        """Ask a worker for RQ's maintenance, after a round of heartbeats: it ends jobs that look
        abandoned."""
        if self._clock.may_judge:
            self._beat()
            self._write(asked=time.monotonic())

    def _find_the_dead(self) -> None:
        now = time.monotonic()
        found = self._dead_workers.look()
        self._asked = {left: until for left, until in self._asked.items() if left in found}
        for left in found:
            if now < self._asked.get(left, 0.0) or not self._may_recover(left):
                continue
            self._asked[left] = now + _ASK_AGAIN
            logs.warning(
                f"worker={left.owner.name} {self._how_lost(left)}", LogEvent.STEWARD_NOTICE
            )
            self._boot.link.send(_recovery_of(left, self._how_lost(left)))

    def _how_lost(self, left: Left) -> str:
        job = (
            f"job={abbreviate(left.job_id)}"
            if len(left.job_id) > LONGEST_ID
            else f"job={left.job_id}"
        )
        owner = left.owner
        if owner.arbiter != self._boot.identity:
            return f"is dead, and so is its arbiter {owner.arbiter}; it held {job}"
        return f"does not have {job} any more that it holds in redis"

    def _may_recover(self, left: Left) -> bool:
        """Whether this arbiter serves the queue: the job classes of others are unknown here."""
        names = {queue.name for queue in self._boot.config.queues}
        return not left.execution_id or REST in names or left.queue in names

    def _write(self, **changes: object) -> None:
        """Publish the status, unless a newer steward does."""
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]
        if self._boot.board.steward_status().serial == self._boot.serial:
            self._boot.board.set_steward_status(self._status)


def _recovery_of(left: Left, reason: str) -> Recover:
    """The message that a fork server would send if it had just reaped the worker.

    A job of a worker that died with its arbiter was interrupted, as by a stop, and goes back to its
    queue. A worker without an arbiter is treated by RQ's rules for deaths.
    """
    owner = left.owner
    record = Record(
        phase=Phase.RUNNING if left.execution_id else Phase.TAKEN,
        name=owner.name,
        pid=owner.pid,
        ticks=owner.ticks,
        job_id=left.job_id.encode()[:LONGEST_ID].decode(errors="ignore"),
        overflow=int(len(left.job_id.encode()) > LONGEST_ID),
        execution_id=left.execution_id[:40],
        queue=left.queue[:LONGEST_ID],
    )
    death = Death(
        slot=0,
        status=signal.SIGKILL,
        rusage={},
        record=record,
        queues=(record.queue,),
        interrupted=owner.arbiter != NO_ARBITER,
        reason=f"worker {owner.name} {reason}"[:1000],
        owner=str(owner),
    )
    return Recover(death, answer=False)
