"""The loop of the duties process: it calls the functions that plugins have registered as duties.

Its fork server starts it, kills it when a call exceeds its limit, and starts it again.
"""

from __future__ import annotations

import contextlib
import select
import time
from typing import Final, assert_never

from redis.exceptions import RedisError, ResponseError

from resqued import logs, originals, titles
from resqued.broker.bad_data import is_data_error, log_once
from resqued.broker.connection import make_connection
from resqued.broker.outages import NO_ANSWER, Outage, is_outage
from resqued.child_loop import run_loop
from resqued.duties.boot import DutiesBoot
from resqued.duties.calls import APART, Calls
from resqued.duties.definition import DutyDefinition
from resqued.duties.keeper import LOOK, RENEW, Keeper
from resqued.duties.view import DutyView
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.signal_table import InSteward, row_of

TURN: Final = 30.0
"""Seconds between two turns of the loop, at most."""

SLACK: Final = 60.0
"""Seconds beyond a turn's end after which the process counts as hung."""

_PATIENCE: Final = 5.0  # seconds until a lock that cannot be read is tried again


def run(boot: DutiesBoot) -> int:
    """Do the duties until told to leave; the exit status. Never raises. See `run_loop`."""
    titles.duties()
    return run_loop(
        lambda mailbox: DutiesLoop(boot, mailbox).serve(),
        "the duties process failed; another is started",
        LogEvent.DUTY_NOTICE,
    )


class DutiesLoop:
    """The state of the loop; `serve` runs it."""

    def __init__(self, boot: DutiesBoot, mailbox: Mailbox) -> None:
        config = boot.config
        self._boot = boot
        self._mailbox = mailbox
        self._leaving = False
        name = f"{config.name or boot.identity}.duties"
        self._connection = make_connection(config, name)
        self._calls = Calls(mailbox)
        self._outage = Outage(config, self._poll)
        self._keeper: Keeper | None = None
        if any(duty.is_of_fleet for duty in boot.duties):
            self._keeper = Keeper(config, boot.identity, f"{name}.keeper")
        self._tokens: dict[str, int] = {}  # of the duties of which this process is the keeper

    def serve(self) -> None:
        """Turn after turn, until told to leave."""
        while not self._leaving:
            try:
                self._turn()
                self._outage.over()
            except NO_ANSWER as error:
                self._note_turn()
                self._outage.wait(error)
        if self._keeper is not None:
            with contextlib.suppress(*NO_ANSWER):  # the locks end by themselves
                self._keeper.release()

    def _turn(self) -> None:
        """Call what is due, the longest overdue first, then wait."""
        if self._outage.lasts:  # nothing is called that would only fail
            self._connection.ping()
        self._look_after_locks()
        record, now = self._boot.record, time.monotonic()
        due = sorted((record.due(number), number) for number in range(len(self._boot.duties)))
        for at, number in due:
            if at > now or self._leaving:
                break
            self._call(number, self._boot.duties[number])
            self._poll(0.0)
        nearest = min(record.due(number) for number in range(len(self._boot.duties)))
        self._note_turn()
        longest = TURN if self._keeper is None else RENEW
        if not self._leaving:  # a signal that came in a call has been collected after it
            self._poll(max(0.0, min(longest, nearest - time.monotonic())))

    def _look_after_locks(self) -> None:
        """Keep the locks. One that was lost, by a pause of this process for example, is looked at
        from now on: its keeper may end before the duty is due here."""
        if self._keeper is None:
            return
        self._keeper.renew()
        lost = self._keeper.lost(self._tokens)
        for number, duty in enumerate(self._boot.duties):
            if duty.name in lost:
                del self._tokens[duty.name]
                self._boot.record.set_due(number, time.monotonic())

    def _call(self, number: int, duty: DutyDefinition) -> None:
        """Call a duty that is due; with `once="fleet"` only as its keeper."""
        record, token = self._boot.record, 0
        if duty.is_of_fleet:
            try:
                token, wait = self._hold(duty)
            except ResponseError as error:
                if not is_data_error(error):
                    raise
                log_once(f"keeper {duty.name}", f"no keeper of duty '{duty.name}': {error}")
                wait = _PATIENCE
            if wait:
                record.set_due(number, time.monotonic() + wait)
                return
        view = DutyView(duty.name, self._boot.config, self._boot.identity, token, self._connection)
        began = time.monotonic()
        # If this process dies in the call.
        record.set_due(number, began + duty.every, deaths=record.deaths(number))
        record.note(number, began, began + duty.limit)
        titles.duties(duty.name)
        try:
            due = self._calls.call(duty, view, self._is_outage)
        except NO_ANSWER:
            record.set_due(number, began)
            raise
        finally:
            self._note_turn()
            titles.duties()
        record.set_due(number, due)
        if self._keeper is not None and token:
            self._keeper.set_due(duty.name, token, due - time.monotonic())

    def _hold(self, duty: DutyDefinition) -> tuple[int, float]:
        """The token, and seconds to wait: for the lock of another keeper, or, for a new one, until
        the duty is due after the last call of the one before."""
        assert self._keeper is not None
        hold = self._keeper.hold(duty.name)
        before = self._tokens.get(duty.name, 0)
        if not hold.token:
            self._tokens.pop(duty.name, None)
            return 0, min(hold.wait + APART, LOOK)
        self._tokens[duty.name] = hold.token
        if hold.token == before:
            return hold.token, 0.0
        logs.info(
            f"duty '{duty.name}': this arbiter is its keeper, token {hold.token}",
            LogEvent.DUTY_NOTICE,
            duty=duty.name,
            plugin=duty.plugin,
        )
        return hold.token, min(hold.wait, duty.every)

    def _is_outage(self, error: BaseException) -> bool:
        """Whether Redis does not answer; a function may raise the same because of another server,
        or of its own commands."""
        if not isinstance(error, RedisError) or not is_outage(error):
            return False
        try:
            self._connection.ping()
        except NO_ANSWER:
            return True
        return False

    def _note_turn(self) -> None:
        now = time.monotonic()
        self._boot.record.note(None, now, now + TURN + SLACK)

    def _poll(self, seconds: float) -> None:
        """Wait, at most so long; a signal ends it."""
        poll = originals.poll()
        poll.register(self._mailbox.fileno(), select.POLLIN)
        if not self._mailbox.has_read_ahead:
            poll.poll(seconds * 1000)
        for signum in self._mailbox.collect():
            self._signalled(row_of(signum).steward)

    def _signalled(self, effect: InSteward) -> None:
        match effect:
            case InSteward.REOPEN:
                logs.reopen()
                self._boot.hooks.tell("reopen_logs", role="duties")
            case InSteward.LEAVE | InSteward.SIGN_OFF:
                self._leaving = True
            case InSteward.WAKE | InSteward.IGNORE | InSteward.DEFAULT:
                pass
            case _:
                assert_never(effect)
