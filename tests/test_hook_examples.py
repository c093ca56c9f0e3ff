"""The examples of `--list-hooks=HOOK`: each is a hook that resqued takes, and does what it says."""

from __future__ import annotations

import os
import time
import types
from pathlib import Path

import pytest

import resqued
from resqued import VetoFork, Wait, hookspecs
from resqued.command.hook_examples import EXAMPLES
from resqued.logs import logger
from resqued.plugins.candidates import AskedPlugin, Candidate
from resqued.plugins.validation import examine, mark_functions, new_manager
from resqued.testing import (
    FakeArbiter,
    FakeDuties,
    call,
    make_config,
    make_draft,
    make_exit,
    make_generation,
    make_job,
    make_outcome,
    make_worker,
)

HOOKS = [hook for names in hookspecs.LIFE_CYCLE.values() for hook in names]


class RqWorker:
    """What `worker_ready` gets, as far as the example uses it."""

    def __init__(self) -> None:
        self.exception_callbacks: list[object] = []

    def push_exc_handler(self, function: object) -> None:
        self.exception_callbacks.append(function)


class Options:
    """What `add_options` gets, as far as the example uses it."""

    def __init__(self) -> None:
        self.flags: list[str] = []

    def add(self, flag: str, **more: object) -> None:
        self.flags.append(flag)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, object]:
    """Every argument of every hook, by name."""
    worker = make_worker(number=2, job_id="7", queue="reports", config=make_config(workers=4))
    return {
        "argv": ["resqued"],
        "arbiter": FakeArbiter(config=make_config(workers=4, state=str(tmp_path))),
        "arguments": {},
        "attempt": 0,
        "config": make_draft(),
        "count": 4,
        "current": 4,
        "dropped": False,
        "duties": FakeDuties(),
        "env": {},
        "error": None,
        "exit": make_exit(signal=9, out_of_memory=True, function="shop.tasks.report"),
        "exit_code": 0,
        "generation": make_generation(modules=("shop",)),
        "graceful": True,
        "job": make_job("operator.add", 1, 2),
        "job_id": "7",
        "now": 1.0,
        "number": 4,
        "options": Options(),
        "outcome": make_outcome(),
        "overdue": 5.0,
        "queues": ["high", "low"],
        "reason": "start",
        "role": "worker",
        "rq_worker": RqWorker(),
        "signame": "TTOU",
        "verb": "count",
        "verdict": "retried",
        "worker": worker,
    }


@pytest.fixture(autouse=True)
def everything_back(monkeypatch: pytest.MonkeyPatch):
    """What the examples change of this process."""
    kept = os.environ.copy()
    cores = os.sched_getaffinity(0)
    yield
    os.environ.clear()
    os.environ.update(kept)
    os.sched_setaffinity(0, cores)


def module_of(hook: str) -> types.ModuleType:
    """The example as a config file has it, its function marked."""
    module = types.ModuleType("example")
    public = {name: getattr(resqued, name) for name in resqued.__all__ if name[0] != "_"}
    module.__dict__.update(public, os=os, time=time, Path=Path, logger=logger)
    exec(compile(EXAMPLES[hook], "example", "exec"), module.__dict__)
    return module


def test_every_hook_has_an_example_of_two_or_three_lines():
    assert list(EXAMPLES) == HOOKS
    for hook, text in EXAMPLES.items():
        assert text.startswith(f"def {hook}(")
        assert 2 <= text.count("\n") <= 3
        assert max(map(len, text.splitlines())) <= 77


@pytest.mark.parametrize("hook", HOOKS)
def test_an_example_is_a_hook_and_runs(hook, given):
    """It is valid by its spec, and does not fail when it is called with what the hook gets."""
    module = module_of(hook)
    assert mark_functions(new_manager(), module, "example") == []
    found = examine(new_manager(), module, Candidate("example", asked=AskedPlugin("example")))
    assert (found.errors, found.hooks) == ([], [hook])
    arguments = {name: given[name] for name in hookspecs_arguments(hook)}
    if hook == "perform_job":
        assert call(module, hook, **arguments, run=lambda: 3) == 3
    else:
        call(module, hook, **arguments)


def hookspecs_arguments(hook: str) -> tuple[str, ...]:
    code = getattr(hookspecs, hook).__code__
    return code.co_varnames[: code.co_argcount]


def answer(hook: str, given: dict[str, object], **changes: object) -> object:
    module = module_of(hook)
    mark_functions(new_manager(), module, "example")
    arguments = {name: given[name] for name in hookspecs_arguments(hook)}
    return call(module, hook, **{**arguments, **changes})


def test_examples_that_decide_something_decide_it(given, monkeypatch, tmp_path):
    assert answer("signal_received", given) is True
    assert answer("signal_received", given, signame="HUP") is None
    assert answer("choose_queues", given) == ["reports"]
    assert answer("choose_queues", given, number=1) is None
    assert answer("worker_count", given) in (2, 4)
    assert answer("worker_stuck", given) == Wait(60)
    assert answer("worker_stuck", given, overdue=700.0) is None
    assert answer("control", given) == {"workers": 0}
    assert answer("control", given, verb="other") is None
    assert answer("order_queues", given) == ["high", "low"]
    assert answer("should_recycle", given) is None
    spoilt = make_worker(failed=101)
    assert answer("should_recycle", given, worker=spoilt) == "101 failed"
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    with pytest.raises(VetoFork, match="overloaded"):
        answer("before_fork", given)


def test_examples_that_change_something_change_it(given, tmp_path):
    draft = make_draft(queues={"high": "all", "low": "all"})
    answer("configure", given, config=draft)
    assert draft.workers == 2
    for hook, name in (("fork_server_env", "MALLOC_ARENA_MAX"), ("before_exec", "RELEASE")):
        env: dict[str, str] = {}
        answer(hook, given, env=env)
        assert list(env) == [name]
    answer("tick", given)
    assert (tmp_path / "alive").exists()
    answer("arbiter_exited", given)
    assert not (tmp_path / "alive").exists()
    arbiter = given["arbiter"]
    answer("arbiter_started", given)
    assert [timer.seconds for timer in arbiter.timers] == [60]
