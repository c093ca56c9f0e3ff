"""Call one hook of one plugin, checked as in production."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from resqued import hookspecs
from resqued.plugins.answers import check_answer
from resqued.plugins.candidates import suggestion
from resqued.plugins.errors import WrongAnswer
from resqued.plugins.hooks import Hooks
from resqued.plugins.validation import WRAPPED
from resqued.testing.arbiter import in_the_loop
from resqued.testing.subject import Subject

_RUN: Final = "run"
"""The keyword of `call` for what the job does."""


def call(plugin: object, hook: str, /, **arguments: Any) -> Any:
    """Call a hook of a plugin, and return its answer. What the hook raises passes.

        assert call(plugin, "should_recycle", worker=make_worker(memory=2**30)) == "too large"

    plugin: a module or an object. arguments: those of the hook that the plugin names; others of
    the hook may be given too. For `perform_job` give `run`, a function without arguments, which
    is the job: the answer is what the wrapper makes of its result.
    Raises LookupError for a hook that does not exist or that the plugin does not have; TypeError
    for an argument that the hook does not have or that is missing, for an answer that resqued
    would not take, and for a plugin that it would not load.
    """
    subject = Subject(plugin)
    spec = getattr(subject.manager.hook, hook, None)
    if spec is None or spec.spec is None:
        known = [name for names in hookspecs.LIFE_CYCLE.values() for name in names]
        raise LookupError(f"there is no hook {hook!r}.{suggestion(hook, known)}")
    offered = list(spec.spec.argnames)
    signature = f"{hook}({', '.join(offered)})"
    more = [_RUN] if hook == WRAPPED else []
    for name in arguments:
        if name not in [*offered, *more]:
            hint = suggestion(name, offered)
            raise TypeError(f"{hook} has no argument {name!r}.{hint} It has {signature}")
    implementations = subject.implementations(hook)
    if not implementations:
        has = ", ".join(subject.hooks) or "none"
        why = "".join(f"\n  {text}" for text in subject.warnings if f" {hook}()" in text)
        raise LookupError(f"plugin '{subject.shown}' has no {hook}; its hooks: {has}{why}")
    asked = [name for each in implementations for name in each.argnames] + more
    missing = [repr(name) for name in dict.fromkeys(asked) if name not in arguments]
    if missing:
        text = f"plugin '{subject.shown}' asks for {', '.join(missing)} in {signature}"
        raise TypeError(f"{text}; give it to the call")
    if hook == WRAPPED:
        run = arguments.pop(_RUN)
        return Hooks(subject.manager).perform(run, **{**dict.fromkeys(offered), **arguments})
    in_arbiter = hook in hookspecs.LIFE_CYCLE["Arbiter"]
    for each in implementations:
        optional = {name: arguments[name] for name in each.kwargnames if name in arguments}
        with in_the_loop() if in_arbiter else contextlib.nullcontext():
            answer = each.function(*[arguments[name] for name in each.argnames], **optional)
        check_answer(hook, answer, arguments)
        if hook == "choose_queues" and answer is not None and not answer:
            raise WrongAnswer(f"returned {answer!r}, but a worker needs a queue; None leaves it")
        if answer is not None:
            return answer
    return None
