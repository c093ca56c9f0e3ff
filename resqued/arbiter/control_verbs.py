"""What requests over the control socket do: the verbs of plugins, and plugins' own (`control`)."""

from __future__ import annotations

import difflib
from typing import Any, Final

from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.control_server import Pending, Refusal
from resqued.arbiter.inbox import Inbox
from resqued.arbiter.recent import Recent, RecentStream
from resqued.arbiter.view import ArbiterView
from resqued.control.packets import REFUSED, ControlRequest
from resqued.core.state import State
from resqued.core.verbs import Verb
from resqued.logs.redaction import redact
from resqued.scoreboard.runs import compact

_SOURCE: Final = "resquedctl"

_PLAIN: Final = (
    Verb.RELOAD,
    Verb.REEXEC,
    Verb.DRAIN,
    Verb.STOP,
    Verb.REST,
    Verb.RESUME,
    Verb.REPLAN,
    Verb.LOOK_AGAIN,
    Verb.REOPEN_LOGS,
)
"""Verbs without arguments."""

EVENTS: Final = "events"
CONFIG: Final = "config"
_LONGEST: Final = 2000
"""Characters of a setting's value in an answer."""
_FACTS: Final = (EVENTS, CONFIG)
"""What only asks for facts."""


class ControlVerbs:
    """Begins what a request asks for."""

    def __init__(
        self,
        active: ActiveConfig,
        state: State,
        inbox: Inbox,
        view: ArbiterView,
        recent: Recent,
    ) -> None:
        self._active = active
        self._recent = recent
        self._state = state
        self._inbox = inbox
        self._view = view

    def act(self, request: ControlRequest) -> Pending | RecentStream | dict[str, Any]:
        """Raises Refusal."""
        verb, given = request.verb, dict(request.arguments)
        number = 0
        if verb in _FACTS:
            return self._tell(verb, given)
        if verb == Verb.SCALE:
            number = self._count(given)
        elif verb == Verb.RECYCLE:
            number = _number(given, "number")
        elif verb not in _PLAIN:
            return self._ask_plugins(request)
        if given:
            raise Refusal(f"{verb} has no argument {', '.join(sorted(given))}")
        return self._inbox.post(Verb(verb), number, _SOURCE)

    def _tell(self, verb: str, given: dict[str, Any]) -> RecentStream | dict[str, Any]:
        follows = given.pop("follow", False) if verb == EVENTS else False
        if given:
            raise Refusal(f"{verb} has no argument {', '.join(sorted(given))}")
        if not isinstance(follows, bool):
            raise Refusal(f"follow={follows!r} is neither true nor false")
        if verb == EVENTS:
            return RecentStream(self._recent, follows=follows)
        plain = [each.as_plain() for each in self._active.shown]
        return {"settings": [_short(each) for each in plain], "difference": self._state.difference}

    def facts(self) -> dict[str, Any]:
        """What an answer tells of the arbiter."""
        state = self._state
        plan = {number: state.plan.of(number) for number in range(1, state.plan.count + 1)}
        return {
            "pid": self._view.pid,
            "state": str(state.mode),
            "generation": state.current,
            "workers": state.target,
            "plan": compact(plan),
            "boot_timeout": state.policy.boot_timeout,
        }

    def _count(self, given: dict[str, Any]) -> int:
        """`count`, or `by` more than now."""
        if "by" not in given:
            return _number(given, "count")
        return self._state.target + _number(given, "by")

    def _ask_plugins(self, request: ControlRequest) -> dict[str, Any]:
        failures: list[str] = []
        first = self._active.hooks.answer(
            "control",
            failures=failures,
            arbiter=self._view,
            verb=request.verb,
            arguments=request.arguments,
        )
        if first is None and failures:
            told = redact("; ".join(failures))
            raise Refusal(f"no plugin has answered '{request.verb}': {told}", REFUSED)
        if first is None:
            near = difflib.get_close_matches(request.verb, [*map(str, Verb), *_FACTS], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refusal(f"there is no verb '{request.verb}', also of no plugin{hint}", REFUSED)
        return dict(first.value)


def _short(setting: dict[str, Any]) -> dict[str, Any]:
    """A setting whose value fits into a packet together with all others."""
    text = str(setting["value"])
    if len(text) <= _LONGEST:
        return setting
    return {**setting, "value": f"{text[:_LONGEST]}... ({len(text)} characters)", "overruled": []}


def _number(given: dict[str, Any], name: str) -> int:
    """Take a whole number out of the arguments. Raises Refusal."""
    value = given.pop(name, None)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(f"{name}={value!r} is not a whole number")
    return value
