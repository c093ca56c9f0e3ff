"""Calls of users' functions: what they raise, leave behind and return."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from resqued import logs
from resqued.duties.definition import DutyDefinition
from resqued.duties.fence import Superseded
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.plugins.errors import WrongAnswer, deed, describe, place
from resqued.printable import is_logged

APART: Final = 0.01
"""Seconds between two calls of a duty at least."""


class Calls:
    """Calls the functions of one process. mailbox: its signals, restored after each call."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._undone: set[str] = set()  # what the log has said
        # name -> what it raised and where -> how often since its last success
        self._failures: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def call(
        self, duty: DutyDefinition, view: object, is_outage: Callable[[BaseException], bool]
    ) -> float:
        """Call a duty; when it is due again, in seconds on the monotonic clock.

        is_outage: whether an exception only shows that Redis does not answer; such a one passes.
        What else is raised is logged.
        """
        pid = os.getpid()
        try:
            asked = duty.function(view)
            due = next_call(duty, asked, time.monotonic(), time.time())
        except Superseded as error:
            logs.warning(f"duty '{duty.name}': {error}", LogEvent.DUTY_NOTICE, duty=duty.name)
        except BaseException as error:
            if os.getpid() == pid and is_outage(error):
                raise
            self._log(duty, error)
        else:
            self._failures.pop(duty.name, None)
            return due
        finally:
            if os.getpid() != pid:  # the function has forked, and this is the child: it ends here
                os._exit(0)
            self._restore(duty)
        return time.monotonic() + duty.every

    def _restore(self, duty: DutyDefinition) -> None:
        for what in self._mailbox.take_back():
            text = f"duty '{duty.name}' of plugin '{duty.plugin}' has {what}; undone"
            if text not in self._undone:  # gevent does it in each call
                self._undone.add(text)
                logs.warning(
                    f"{text}, now and later",
                    LogEvent.DUTY_NOTICE,
                    duty=duty.name,
                    plugin=duty.plugin,
                )

    def _log(self, duty: DutyDefinition, error: BaseException) -> None:
        """The first failure with its traceback, then the 10th, the 100th .. in a row."""
        where = place(error, duty.function)
        counts = self._failures[duty.name]
        same = f"{type(error).__name__} at {where}"
        counts[same] += 1
        count = counts[same]
        if not is_logged(count):
            return
        again = f", {count} times in a row" if count > 1 else ""
        shows = count == 1 and not isinstance(error, WrongAnswer)
        logs.error(
            f"duty '{duty.name}': plugin '{duty.plugin}' {deed(error)} ({where}){again};"
            f" it is called again in {duty.every:g} s",
            LogEvent.DUTY_FAILED,
            duty=duty.name,
            plugin=duty.plugin,
            exception=describe(error),
            traceback="".join(traceback.format_exception(error)).rstrip() if shows else None,
        )


def next_call(duty: DutyDefinition, asked: Any, now: float, wall: float) -> float:
    """When a duty is due after a call that has returned `asked`, on the monotonic clock.

    now, wall: the time, on the monotonic clock and in Unix seconds. Raises WrongAnswer.
    """
    if asked is None:
        return now + max(duty.every, APART)
    number = isinstance(asked, int | float) and not isinstance(asked, bool)
    if not number or not math.isfinite(asked):
        raise WrongAnswer(
            f"returned {asked!r:.100}, but it may return the Unix time of its next call, or None"
        )
    return now + max(float(asked) - wall, APART)
