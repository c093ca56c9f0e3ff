"""What the hooks that decide something may answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resqued.verdicts import Verdict


def _is_count(answer: Any) -> bool:
    return isinstance(answer, int) and not isinstance(answer, bool) and answer >= 0


def _are_names(answer: Any) -> bool:
    return isinstance(answer, list | tuple) and all(isinstance(name, str) for name in answer)


_ANSWERS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "signal_received": (lambda answer: isinstance(answer, bool), "True or None"),
    "choose_queues": (_are_names, "a list of queue names"),
    "worker_count": (_is_count, "a number of workers"),
    "worker_stuck": (lambda answer: isinstance(answer, Verdict), "Wait(s), Dump, Terminate, Kill"),
    "should_recycle": (lambda answer: isinstance(answer, str), "a reason, as a string"),
}


def check(hook: str, answer: Any) -> None:
    """Raises TypeError when a hook that decides something answers what is no decision."""
    if answer is None or hook not in _ANSWERS:
        return
    fits, wanted = _ANSWERS[hook]
    if not fits(answer):
        raise TypeError(f"returned {answer!r}, but {hook} wants {wanted}")
