"""The steward's life: one loop that listens, beats and watches, for all workers of an arbiter.

It runs no user code and takes no job. When a newer steward has said hello it leaves. When the
arbiter is gone it stays for as long as a worker finishes its job, so that nobody declares dead
what lives.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from resqued import channel, linux, logs, signals, titles
from resqued.channel import Recover
from resqued.config import Config
from resqued.exits import ExitCode
from resqued.logs import logger
from resqued.scoreboard import Phase, Record, Vigil
from resqued.signals import Mailbox
from resqued.steward import eviction, tending, unscheduled
from resqued.steward.beating import Heartbeats, living
from resqued.steward.boot import StewardBoot
from resqued.steward.clock import Clock
from resqued.steward.eviction import Eviction
from resqued.steward.hearing import Hearing
from resqued.steward.scheduling import Schedule
from resqued.steward.tending import Tending
from resqued.steward.unscheduled import Unscheduled
from resqued.steward.watching import Left, Watch
from resqued.worker import connecting
from resqued.worker.connecting import NO_ANSWER, Outage
from resqued.worker.refusals import is_cured_by_connecting
from resqued.worker.taking import REST

TURN: Final = 1.0
"""Seconds between two turns of the loop, at most, while Redis answers."""

_CLOCK: Final = 60.0  # seconds between two looks at the clocks
_ASK_AGAIN: Final = 60.0  # seconds until a recovery that has not come about is asked for again

_LEAVE: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


@dataclass
class Duty:
    """Something to be done every so often. Seconds; a duty that failed is due again at once."""

    do: Callable[[], None]
    every: float
    due: float = 0.0


def run(boot: StewardBoot) -> int:
    """Be the steward until told to leave; the exit status. Never raises.

    Runs in a fresh child of a fork server; the caller ends the process with it (`os._exit`).
    """
    titles.steward()
    with Mailbox(signals.HANDLED - {signals.NOW, signals.DUMP, signals.COMMAND}) as mailbox:
        for signum in (signals.NOW, signals.COMMAND):
            signal.signal(signum, lambda signum, frame: None)
        signals.unblock()
        try:
            Steward(boot, mailbox).serve()
        except BaseException:
            logger.exception("the steward failed; another is started")
            return ExitCode.GAVE_UP
    return ExitCode.OK


class Steward:
    """The state of the loop. `serve` is its whole life."""

    def __init__(self, boot: StewardBoot, mailbox: Mailbox) -> None:
        config = boot.config
        self._boot = boot
        self._mailbox = mailbox
        self._vigil = Vigil(serial=boot.serial)
        self._arbiters_birth = linux.birth_ticks(boot.arbiter)
        self._leaving = self._signing_off = False
        name = f"{config.name or boot.identity}.steward"
        connection = self._connection = connecting.make_connection(config, name, "INFO")
        prefix = config.name or f"{boot.identity}."
        answer = connecting.answer_time(config)
        self._hearing = Hearing(connection, boot.board, prefix, answer)
        self._heartbeats = Heartbeats(connection, boot.board, config, boot.identity, boot.arbiter)
        self._watch = Watch(connection, boot.identity, config.dead_after)
        self._tending = Tending(connection, config.serializer)
        self._clock = Clock(connection)
        self._eviction = Eviction(connection)
        self._schedule = (
            Schedule(connection, config) if config.with_scheduler and not config.burst else None
        )
        self._outage = Outage(config, self._sleep, quiet=True)  # workers tell of it
        self._asked: dict[str, float] = {}
        self._duties = self._make_duties(config)

    def _make_duties(self, config: Config) -> list[Duty]:
        """In the order in which they are done when all are due."""
        duties = [
            Duty(self._hearing.open, TURN),
            Duty(self._beat, self._heartbeats.every),
            Duty(self._say_hello, TURN),
            Duty(self._look, TURN),
            Duty(self._clock.compare, _CLOCK),
            Duty(self._eviction.look, eviction.EVERY),
            Duty(self._find_the_dead, self._watch.every),
            Duty(self._watch.tidy, self._watch.tidy_every),
            Duty(self._tending.look, tending.EVERY),
            Duty(self._ask_for_maintenance, float(config.maintenance_interval)),
        ]
        if self._schedule is not None:
            duties.append(Duty(self._schedule.step, TURN))
        elif not config.with_scheduler:
            duties.append(Duty(Unscheduled(self._connection, config).look, unscheduled.EVERY))
        return duties

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
                if is_cured_by_connecting(error):
                    self._hearing.close()  # it may hear of nothing there
                self._outage.wait(error)
                continue
            self._wait()
        self._leave()

    def _turn(self) -> None:
        self._hear()
        for duty in self._duties:
            if self._leaving:
                break
            if time.monotonic() >= duty.due:
                duty.do()
                duty.due = time.monotonic() + duty.every
        self._hear()  # what came while something else was asked

    def _hear(self) -> None:
        for command in self._hearing.hear():
            self._boot.link.send(command)

    def _wait(self) -> None:
        """Until the next duty, a signal or a command."""
        due = min(duty.due for duty in self._duties)
        self._poll(max(0.0, min(TURN, due - time.monotonic())), self._hearing.descriptors)

    def _sleep(self, seconds: float) -> None:
        """While Redis does not answer. A signal ends it."""
        self._poll(min(TURN, seconds), ())

    def _poll(self, seconds: float, also: Sequence[int]) -> None:
        poll = select.poll()
        for fd in (self._mailbox.fileno(), *also):
            poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000 + 1)
        for signum in self._mailbox.collect():
            self._told(signum)

    def _told(self, signum: int) -> None:
        if signum == signal.SIGUSR1:
            logs.reopen()
        elif signum in _LEAVE:
            self._leaving = True
            self._signing_off = self._signing_off or signum == signal.SIGTERM

    # Whether it is still wanted.

    def _is_superfluous(self) -> bool:
        """A newer one has said hello, or neither the arbiter nor a worker is left."""
        if self._boot.board.vigil().serial > self._boot.serial:
            return True
        if linux.lives(self._boot.arbiter, self._arbiters_birth):
            return False
        self._signing_off = True
        return not any(True for _ in living(self._boot.board))

    def _leave(self) -> None:
        """Let go of what would have to time out. Redis away: it does."""
        try:
            if self._schedule is not None:
                self._schedule.stop()
            if self._signing_off:
                self._heartbeats.sign_off()
        except NO_ANSWER as error:
            logger.debug(f"not signed off: {error}")
        self._hearing.close()
        self._boot.link.flush()

    # Duties.

    def _beat(self) -> None:
        self._hearing.check()
        suspended = self._heartbeats.beat()
        self._write(beaten=time.monotonic(), suspended=suspended)

    def _say_hello(self) -> None:
        """All is well with us: the steward before us may leave."""
        board = self._boot.board
        if board.vigil().serial < self._boot.serial:
            board.set_vigil(self._vigil)
            os.eventfd_write(self._boot.doorbell, 1)

    def _look(self) -> None:
        self._write(suspended=self._heartbeats.look())

    def _ask_for_maintenance(self) -> None:
        """Not before all that live have been vouched for: it ends what seems abandoned."""
        if self._clock.may_judge:
            self._beat()
            self._write(asked=time.monotonic())

    def _find_the_dead(self) -> None:
        now = time.monotonic()
        self._asked = {owner: at for owner, at in self._asked.items() if at > now}
        for left in self._watch.look():
            if str(left.owner) not in self._asked and self._is_ours_to_recover(left):
                self._asked[str(left.owner)] = now + _ASK_AGAIN
                logger.warning(f"worker={left.owner.name} is dead, it held job={left.job_id}")
                self._boot.link.send(_recovery_of(left))

    def _is_ours_to_recover(self, left: Left) -> bool:
        """A queue that we do not serve may hold jobs of classes that we do not know."""
        names = {queue.name for queue in self._boot.config.queues}
        return not left.execution_id or REST in names or left.queue in names

    def _write(self, **changes: object) -> None:
        """Publish, unless a newer one does by now."""
        self._vigil = replace(self._vigil, **changes)  # type: ignore[arg-type]
        if self._boot.board.vigil().serial == self._boot.serial:
            self._boot.board.set_vigil(self._vigil)


def _recovery_of(left: Left) -> channel.Recover:
    """As if it had died under our own fork server just now."""
    owner = left.owner
    record = Record(
        phase=Phase.RUNNING if left.execution_id else Phase.TAKEN,
        name=owner.name,
        pid=owner.pid,
        ticks=owner.ticks,
        job_id=left.job_id,
        execution_id=left.execution_id,
        queue=left.queue,
    )
    return Recover(
        slot=0,
        status=signal.SIGKILL,
        record=record.as_plain(),
        queues=[left.queue],
        interrupted=False,
        reason=f"worker {owner.name} is gone, and so is its arbiter {owner.arbiter}",
        owner=str(owner),
    )
