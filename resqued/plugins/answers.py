"""What a hook that decides something may answer.

An answer that cannot be is like an exception of the hook: the plugin is named in the log with what
the hook wants, and the next plugin is asked.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from resqued.plugins.errors import WrongAnswer
from resqued.scoreboard import MAX_SLOTS
from resqued.shares import check_name, mistaken_share
from resqued.verdicts import Verdict


def check_answer(hook: str, answer: Any, arguments: Mapping[str, Any]) -> None:
    """Raises WrongAnswer when a hook that decides something answers what it may not.

    arguments: what it was called with.
    """
    if answer is None:
        return
    _refuse_what_is_unrun(hook, answer)
    if hook not in _WANTED:
        return
    fits, wanted = _WANTED[hook]
    if not fits(answer):
        raise WrongAnswer(f"returned {_shown(answer)}, but {hook} wants {wanted}")
    if hook == "choose_queues":
        named = {queue.name for queue in getattr(arguments.get("config"), "queues", ())}
        _check_queues(answer, named)


def _refuse_what_is_unrun(hook: str, answer: Any) -> None:
    """Of an async or generator function behind a decorator, which nothing has run."""
    if inspect.iscoroutine(answer) or inspect.isasyncgen(answer) or inspect.isgenerator(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # else Python warns that it was never awaited
        kind = "generator" if inspect.isgenerator(answer) else "coroutine"
        raise WrongAnswer(f"returned a {kind}, but nothing runs it: {hook} is a plain function")


def _check_queues(names: list[str], named: set[str]) -> None:
    """named: the queues of the settings, which have these names for sure."""
    for number, name in enumerate(names):
        try:
            check_name(name)
        except ValueError as error:
            raise WrongAnswer(f"returned a queue that cannot be: {error}") from None
        if name not in named and (mistake := mistaken_share(name)):
            raise WrongAnswer(f"returned the queue {name!r}, but {mistake}")
        if name in names[:number]:
            raise WrongAnswer(f"returned the queue {name!r} twice; once is enough")


def _shown(answer: Any) -> str:
    try:
        text = repr(answer)
    except Exception:
        text = f"an object of {type(answer).__name__}"
    return text if len(text) <= 100 else f"{text[:100]} .."


def _is_count(answer: Any) -> bool:
    whole = isinstance(answer, int) and not isinstance(answer, bool)
    return whole and 0 <= answer <= MAX_SLOTS


def _are_names(answer: Any) -> bool:
    return isinstance(answer, list | tuple) and all(isinstance(name, str) for name in answer)


def _is_json_object(answer: Any) -> bool:
    """Whether it is a dict, and can be written as JSON."""
    try:
        return isinstance(answer, dict) and bool(json.dumps(answer))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_reason(answer: Any) -> bool:
    return isinstance(answer, str) and bool(answer.strip())


_WANTED: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "signal_received": (lambda answer: isinstance(answer, bool), "True or None"),
    "control": (_is_json_object, "a dict of plain JSON, or None"),
    "choose_queues": (_are_names, "a list of queue names, or None"),
    "order_queues": (_are_names, "a list of queue names, or None"),
    "worker_count": (_is_count, f"a whole number of workers, 0 to {MAX_SLOTS}, or None"),
    "worker_stuck": (
        lambda answer: isinstance(answer, Verdict),
        "Wait(seconds), Dump, Terminate, Fail(reason), Kill or None",
    ),
    "should_recycle": (_is_reason, "a reason in a few words, or None; the worker goes on"),
}
