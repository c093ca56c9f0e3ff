"""Calling hooks: each plugin by itself, bounded in time, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.waiting import scaled
from resqued import Config, ConfigError, Kill, VetoFork, Wait, hookimpl
from resqued.logs import logger
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import Hooks, silenced
from resqued.plugins.limits import HookTimeout, Limits, limits
from resqued.plugins.validation import new_manager
from resqued.shares import parse_queue


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level="DEBUG")
    yield lines
    logger.remove(sink)


class Plugin:
    """A plugin made of these hooks."""

    def __init__(self, **functions: Any) -> None:
        for name, function in functions.items():
            marked = hasattr(function, "resqued_impl")
            setattr(self, name, function if marked else hookimpl(function))


def hooks(*plugins: object, limit: float | None = None) -> Hooks:
    """Plugins called `one`, `two`, ... in this order, so the last is called first."""
    manager = new_manager()
    for name, each in zip(("one", "two", "three", "four"), plugins, strict=False):
        manager.register(each, name)
    return Hooks(manager, limit=limit)


class Broken:
    """A plugin whose tick raises; `errors` are raised one after the other, None is success."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)

    @hookimpl
    def tick(self) -> None:
        error = self.errors.pop(0)
        if error is not None:
            raise error


# --- all -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        GeneratorExit(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_that_raises_stops_neither_the_others_nor_the_caller(log, error):
    called = []
    plugins = [Plugin(tick=lambda: called.append("one")), Broken(error)]
    plugins.append(Plugin(tick=lambda: called.append("three")))
    hooks(*plugins).tell("tick", arbiter=None, now=1.0)
    assert called == ["three", "one"]
    assert f"hook tick: plugin 'two' raised {type(error).__name__}" in log[0]


def test_the_log_names_plugin_hook_file_and_line_of_the_Plugin(log):
    def tick() -> None:
        time.sleep(-1)  # raised in the standard library or in C, the fault is this line's

    hooks(Plugin(tick=tick)).tell("tick", arbiter=None, now=0.0)
    line = tick.__code__.co_firstlineno + 1
    assert "ERROR hook tick: plugin 'one' raised ValueError: sleep length" in log[0]
    assert f"test_hooks.py:{line}); ignored" in log[0]
    assert log[0].record["extra"]["traceback"].startswith("Traceback")


def test_an_error_that_cannot_be_printed_is_logged_too(log):
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    hooks(Broken(Hostile())).tell("tick", arbiter=None, now=0.0)
    assert "raised Hostile: (it cannot be printed)" in log[0]


def test_repeats_are_thinned_until_it_succeeds(log):
    def error() -> Exception:
        return OSError("away")

    some = hooks(Broken(*(error() for _ in range(100)), None, error()))
    for _ in range(102):
        some.tell("tick", arbiter=None, now=0.0)
    heads = [line.splitlines()[0] for line in log]
    assert len(heads) == 4
    assert heads[0].endswith("; ignored")
    assert "'one' has now failed 10 times in a row (same error: OSError: away" in heads[1]
    assert "100 times" in heads[2]
    assert heads[3].endswith("; ignored")


def test_another_error_in_between_is_not_thinned(log):
    some = hooks(Broken(OSError(), OSError(), KeyError("host"), OSError()))
    for _ in range(4):
        some.tell("tick", arbiter=None, now=0.0)
    assert [line.split("raised ")[1].split()[0] for line in log] == ["OSError", "KeyError:"]


def test_the_order_is_last_registered_first_and_trylast_last():
    called = []
    last = hookimpl(trylast=True)(lambda: called.append("one"))
    first = hookimpl(tryfirst=True)(lambda: called.append("two"))
    some = hooks(
        Plugin(tick=last),
        Plugin(tick=first),
        Plugin(tick=lambda: called.append("three")),
        Plugin(tick=lambda: called.append("four")),
    )
    some.tell("tick", arbiter=None, now=0.0)
    assert called == ["two", "four", "three", "one"]


def test_a_plugin_gets_only_the_arguments_it_names():
    seen = []
    some = hooks(Plugin(worker_exited=lambda exit: seen.append(exit)))
    some.tell("worker_exited", arbiter=1, worker=2, exit=3)
    assert seen == [3]


def test_an_argument_with_a_default_gets_the_value_or_of_an_older_host_the_default():
    seen = []

    def tick(now: float = -1.0, newer: str = "none") -> None:
        seen.append((now, newer))

    hooks(Plugin(tick=tick)).tell("tick", arbiter=None, now=5.0)
    assert seen == [(5.0, "none")]


def test_only_plugins_of_these_names_are_told():
    called = []
    some = hooks(
        Plugin(tick=lambda: called.append("one")), Plugin(tick=lambda: called.append("two"))
    )
    some.tell_only({"one"}, "tick", arbiter=None, now=0.0)
    assert called == ["one"]


# --- first -----------------------------------------------------------------------------------


def make_note(called: list[str], name: str) -> Any:
    def function() -> None:
        called.append(name)

    return function


def asked(*answers: Any) -> Any:
    plugins = [Plugin(worker_count=make(answer)) for answer in answers]
    return hooks(*plugins).ask("worker_count", arbiter=None, current=1)


def make(answer: Any) -> Any:
    def function() -> Any:
        return answer

    return function


def test_the_first_answer_wins_and_none_is_no_opinion():
    assert asked(1, 2, None) == 2
    assert asked(None, None) is None
    assert asked(5, 0) == 0


def test_who_raises_has_no_opinion_and_the_next_one_is_asked(log):
    def worker_count() -> int:
        raise KeyError("low")

    some = hooks(Plugin(worker_count=make(7)), Plugin(worker_count=worker_count))
    assert some.ask("worker_count", arbiter=None, current=1) == 7
    assert "plugin 'two' raised KeyError: 'low'" in log[0]
    assert "; asked 'one' instead\n" in log[0]


def test_nobody_is_left_to_ask(log):
    some = hooks(Plugin(worker_count=Broken(OSError()).tick))
    assert some.ask("worker_count", arbiter=None, current=1) is None
    assert "; nobody else to ask\n" in log[0]


@pytest.mark.parametrize(
    ("hook", "nonsense"),
    [
        ("choose_queues", "low"),
        ("choose_queues", [b"low"]),
        ("worker_count", True),
        ("worker_count", -1),
        ("worker_count", 2.0),
        ("worker_count", 10**30),
        ("worker_stuck", "kill"),
        ("worker_stuck", Wait),
        ("should_recycle", True),
        ("should_recycle", ""),
        ("should_recycle", " "),
        ("order_queues", "low"),
        ("control", [1]),
        ("signal_received", "yes"),
    ],
)
def test_nonsense_is_no_answer(log, hook, nonsense):
    some = hooks(Plugin(**{hook: make(nonsense)}))
    assert some.ask(hook) is None
    assert f"plugin 'one' returned {nonsense!r}, but {hook} wants " in log[0]
    assert "Traceback" not in log[0]


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([""], "a queue that cannot be: a queue needs a name"),
        (["a", "b\nc"], "a queue that cannot be: queue 'b\\x0ac' has control characters"),
        (["x" * 256], "has 256 bytes; at most 255"),
        (["a,b"], "has a comma in its name"),
        (["a", "a"], "the queue 'a' twice; once is enough"),
        (["*", "*"], "the queue '*' twice"),
        (["mail-*"], "the queue 'mail-*', but it is no pattern: '*' alone is every queue"),
        (["a=20"], "the queue 'a=20', but a name has no share here; write 'a'"),
    ],
)
def test_queues_that_cannot_be_are_no_answer(log, names, what):
    some = hooks(Plugin(choose_queues=lambda: ["fine"]), Plugin(choose_queues=make(names)))
    arguments = {"config": Config(), "number": 1, "count": 1}
    answer = some.answer("choose_queues", **arguments)
    assert answer is not None
    assert (answer.value, answer.plugin) == (["fine"], "one")
    assert "hook choose_queues: plugin 'two' returned " in log[0]
    assert what in log[0]


def test_a_queue_of_an_odd_name_is_one_if_the_settings_name_it(log):
    config = Config(queues=(parse_queue("mail-*=all"), parse_queue("a=20=all")))
    some = hooks(Plugin(choose_queues=lambda: ["mail-*", "a=20", "*"]))
    assert some.ask("choose_queues", config=config, number=1, count=1) == ["mail-*", "a=20", "*"]
    assert log == []


def test_false_does_not_handle_a_signal():
    some = hooks(
        Plugin(signal_received=lambda signame: signame == "USR1"),
        Plugin(signal_received=lambda: False),
    )
    assert some.ask("signal_received", arbiter=None, signame="USR1") is True
    assert some.ask("signal_received", arbiter=None, signame="HUP") is None


def test_verdicts_pass():
    assert hooks(Plugin(worker_stuck=make(Kill))).ask("worker_stuck") is Kill
    assert hooks(Plugin(worker_stuck=make(Wait(3)))).ask("worker_stuck") == Wait(3.0)


# --- those that must succeed -----------------------------------------------------------------


def test_a_demanded_hook_fails_with_plugin_hook_file_and_line():
    def after_fork() -> None:
        raise SystemExit("gone")

    with pytest.raises(HookFailed) as failed:
        hooks(Plugin(after_fork=after_fork)).demand("after_fork", worker=None)
    line = after_fork.__code__.co_firstlineno + 1
    told = str(failed.value)
    assert told.startswith("hook after_fork: plugin 'one' raised SystemExit: gone (")
    assert told.endswith(f"test_hooks.py:{line})")
    assert (failed.value.hook, failed.value.plugin) == ("after_fork", "one")
    assert failed.value.__cause__ is failed.value.cause


def test_the_first_failure_of_a_demanded_hook_ends_it():
    called = []
    some = hooks(Plugin(tick=lambda: called.append(1)), Broken(ValueError()))
    with pytest.raises(HookFailed):
        some.demand("tick", arbiter=None, now=0.0)
    assert called == []


def test_a_config_error_may_name_no_setting():
    assert str(ConfigError("no licence", remedy="buy one")) == "no licence\n  buy one"
    assert str(ConfigError("workers", "few")) == "workers: few"


def test_a_config_error_is_a_veto_and_passes_as_it_is(log):
    called = []
    some = hooks(
        Plugin(tick=lambda: called.append(1)), Broken(*[ConfigError("workers", "few")] * 3)
    )
    with pytest.raises(ConfigError):
        some.demand("tick", arbiter=None, now=0.0)
    with pytest.raises(ConfigError):
        some.tell_unless_refused("tick", arbiter=None, now=0.0)
    assert called == [] and log == []
    some.tell("tick", arbiter=None, now=0.0)
    assert called == [1] and len(log) == 1


def test_other_errors_do_not_stop_a_start(log):
    called = []
    some = hooks(Plugin(tick=lambda: called.append(1)), Broken(ValueError()))
    some.tell_unless_refused("tick", arbiter=None, now=0.0)
    assert called == [1] and len(log) == 1


def test_before_fork_vetoes_by_its_own_exception_only(log):
    called = []

    def veto() -> None:
        raise VetoFork("memory is short", retry_after=15)

    some = hooks(Plugin(before_fork=lambda: called.append(1)), Plugin(before_fork=veto))
    answer = some.before_fork(worker=None)
    assert answer is not None
    assert (answer.reason, answer.retry_after, called) == ("memory is short", 15, [])
    some = hooks(Plugin(before_fork=lambda: called.append(1)), Plugin(before_fork=lambda: 1 / 0))
    assert some.before_fork(worker=None) is None
    assert called == [1]
    assert "ZeroDivisionError" in log[0] and "; forks anyway\n" in log[0]


# --- the limit -------------------------------------------------------------------------------


def test_a_hook_that_hangs_is_cut_and_the_others_are_called(log):
    called = []

    def tick() -> None:
        threading.Event().wait(60)

    some = hooks(Plugin(tick=lambda: called.append(1)), Plugin(tick=tick), limit=0.05)
    began = time.monotonic()
    some.tell("tick", arbiter=None, now=0.0)
    assert time.monotonic() - began < scaled(10)
    assert called == [1]
    line = tick.__code__.co_firstlineno + 1
    assert "plugin 'two' raised HookTimeout: took longer than 0.05 s" in log[0]
    assert f"test_hooks.py:{line}); ignored" in log[0]


def test_a_hook_that_swallows_the_cut_is_cut_again(log):
    cuts = []

    def tick() -> None:
        for _ in range(2):
            try:
                threading.Event().wait(60)
            except BaseException as error:
                cuts.append(type(error))

    hooks(Plugin(tick=tick), limit=0.05).tell("tick", arbiter=None, now=0.0)
    assert cuts == [HookTimeout, HookTimeout]


@pytest.fixture
def own_limits() -> Iterator[Limits]:
    """Those of this process, given back as they were; they look ten times as often."""
    before = dict(vars(limits))
    yield limits
    vars(limits).update(before)


def test_each_cut_that_is_swallowed_is_logged_with_the_stack_and_after_three_it_is_resisted(
    log, own_limits, monkeypatch
):
    monkeypatch.setattr("resqued.plugins.limits.LOOK", 0.05)
    cuts, resisted = [], []
    own_limits.remedy = "it is the end"
    own_limits.resist = resisted.append

    def tick() -> None:
        while not resisted:
            try:
                threading.Event().wait(60)
            except BaseException as error:
                cuts.append(type(error))

    hooks(Plugin(tick=tick), limit=0.05).tell("tick", arbiter=None, now=0.0)
    assert (resisted[0].plugin, resisted[0].hook) == ("one", "tick")
    assert len(cuts) == 4
    told = [line for line in log if "has swallowed its time limit" in line]
    for number, line in enumerate(told, start=1):
        head, *stack = line.splitlines()
        assert head.startswith(
            f"ERROR hook tick: plugin 'one' has swallowed its time limit {number} times, and goes"
            " on; after 3 it is the end"
        )
        assert any("in tick" in each for each in stack), "where it is"
        assert not any("limits.py" in each for each in stack), "and not how it was called"
    assert len(told) == 3


def test_once_a_stop_is_asked_for_hooks_have_little_time_each_and_together(
    log, own_limits, monkeypatch
):
    monkeypatch.setattr("resqued.plugins.limits.AT_STOP", 0.3)
    monkeypatch.setattr("resqued.plugins.limits.TOGETHER", 0.5)
    given = []

    def tick(now: float) -> None:
        given.append(round(signal.getitimer(signal.ITIMER_REAL)[0], 1))
        threading.Event().wait(now)

    some = hooks(Plugin(tick=tick), limit=10)
    some.tell("tick", arbiter=None, now=0.0)
    own_limits.is_stop_asked = lambda: True
    for seconds in (0.0, 0.0, 60.0, 60.0, 60.0, 60.0):
        some.tell("tick", arbiter=None, now=seconds)
    assert given[:4] == [1.0, 0.3, 0.3, 0.3], "brief ones do not count"
    assert len(given) == 5 and 0.1 <= given[4] <= 0.3, "what is left of all"
    assert sum("of plugins are skipped" in line for line in log) == 1
    own_limits.is_stop_asked = lambda: False
    some.tell("tick", arbiter=None, now=0.0)
    assert len(given) == 6, "the stop was a plugin's to handle"


def test_a_stop_that_comes_during_a_hook_shortens_its_time(log, own_limits, monkeypatch):
    monkeypatch.setattr("resqued.plugins.limits.LOOK", 0.05)
    monkeypatch.setattr("resqued.plugins.limits.AT_STOP", 0.2)
    asked = []
    own_limits.is_stop_asked = lambda: bool(asked)

    def tick() -> None:
        asked.append(1)
        threading.Event().wait(60)

    began = time.monotonic()
    hooks(Plugin(tick=tick), limit=50).tell("tick", arbiter=None, now=0.0)
    assert time.monotonic() - began < scaled(5)
    assert "raised HookTimeout: took longer than 0.2" in log[0]


def test_a_silenced_plugin_is_not_called_but_for_its_settings(monkeypatch):
    called = []
    names = ("tick", "configure", "add_options")
    some = hooks(Plugin(**{name: make_note(called, name) for name in names}))
    for silenced_for, expected in (
        ("tick", {"configure", "add_options"}),
        ("configure", {"add_options"}),
    ):
        called.clear()
        monkeypatch.setitem(silenced, "one", silenced_for)
        for name in names:
            some.tell(name, arbiter=None, now=0.0, config=None, options=None)
        assert set(called) == expected


def test_a_hook_that_was_cut_has_less_time_until_it_succeeds_or_a_while_is_over(log, monkeypatch):
    monkeypatch.setattr("resqued.plugins.hooks.SLOW", 0.05)
    given = []

    def tick(now: float) -> None:
        given.append(round(signal.getitimer(signal.ITIMER_REAL)[0], 1))
        threading.Event().wait(now)

    some = hooks(Plugin(tick=tick), limit=0.5)
    for seconds in (60.0, 60.0, 60.0, 0.0, 0.0):
        some.tell("tick", arbiter=None, now=seconds)
    assert given == [0.5, 0.0, 0.0, 0.0, 0.5]
    given.clear()
    monkeypatch.setattr("resqued.plugins.hooks.LATELY", 0.0)
    for seconds in (60.0, 60.0):
        some.tell("tick", arbiter=None, now=seconds)
    assert given == [0.5, 0.5]


def test_after_the_call_no_alarm_is_left_and_the_old_one_is_back():
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    try:
        some = hooks(Broken(None, ValueError(), None), limit=30)
        for _ in range(3):
            some.tell("tick", arbiter=None, now=0.0)
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        signal.raise_signal(signal.SIGALRM)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_that_comes_too_late_raises_nowhere():
    armed = []
    some = hooks(Plugin(tick=lambda: armed.append(signal.getsignal(signal.SIGALRM))), limit=30)
    some.tell("tick", arbiter=None, now=0.0)
    armed[0](signal.SIGALRM, sys._getframe())


def test_a_hook_called_from_within_a_hook_is_under_the_same_limit(log):
    inner: list[Hooks] = []

    def signal_received() -> bool:
        inner[0].tell("reopen_logs", role="arbiter")
        threading.Event().wait(60)
        return True

    some = hooks(Plugin(signal_received=signal_received, reopen_logs=lambda: None), limit=0.05)
    inner.append(some)
    assert some.ask("signal_received", arbiter=None, signame="USR1") is None
    assert "HookTimeout" in log[0]


def test_without_a_limit_sigalrm_stays_the_callers():
    kept = signal.getsignal(signal.SIGALRM)
    seen = []
    some = hooks(Plugin(tick=lambda: seen.append(signal.getsignal(signal.SIGALRM))))
    some.tell("tick", arbiter=None, now=0.0)
    assert seen == [kept]


def test_a_slow_hook_is_a_warning(log, monkeypatch):
    monkeypatch.setattr("resqued.plugins.hooks.SLOW", 0.0)
    hooks(Plugin(tick=lambda: None), limit=10).tell("tick", arbiter=None, now=0.0)
    assert log[0].startswith("WARNING hook tick: plugin 'one' took 0.0 s; nothing else runs")


# --- perform_job -----------------------------------------------------------------------------


def around(*wrappers: Any) -> Hooks:
    return hooks(*(Plugin(perform_job=hookimpl(wrapper=True)(each)) for each in wrappers))


def test_wrappers_lie_around_the_job_the_first_called_outermost():
    steps = []

    def wrap(name: str) -> Any:
        def perform_job(job: str) -> Any:
            steps.append(f"{name} before {job}")
            result = yield
            steps.append(f"{name} after {result}")
            return result + 1

        return perform_job

    def job() -> int:
        steps.append("job")
        return 1

    assert around(wrap("inner"), wrap("outer")).perform(job, worker=None, job="j") == 3
    assert steps == ["outer before j", "inner before j", "job", "inner after 1", "outer after 2"]


def test_without_wrappers_the_job_runs_as_it_is():
    assert hooks().perform(lambda: 5, worker=None, job=None) == 5


@pytest.mark.parametrize(
    "error", [ValueError("job"), SystemExit(1), StopIteration(7)], ids=lambda e: type(e).__name__
)
def test_the_jobs_exception_comes_out_of_the_yield_and_passes_on(error):
    seen = []

    def perform_job() -> Any:
        try:
            return (yield)
        except BaseException as passing:
            seen.append(passing)
            raise

    def job() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        around(perform_job, perform_job).perform(job, worker=None, job=None)
    assert raised.value is error
    assert seen == [error, error]


def test_a_stop_iteration_of_the_job_passes_a_wrapper_that_does_not_look():
    def perform_job() -> Any:
        return (yield)

    def job() -> None:
        next(iter(()))

    with pytest.raises(StopIteration):
        around(perform_job).perform(job, worker=None, job=None)


def test_a_wrapper_may_turn_a_failure_into_a_result_or_another_error():
    def rescue() -> Any:
        try:
            return (yield)
        except ValueError:
            return "rescued"

    def replace() -> Any:
        try:
            return (yield)
        except ValueError as error:
            raise KeyError from error

    def job() -> None:
        raise ValueError

    assert around(rescue).perform(job, worker=None, job=None) == "rescued"
    with pytest.raises(KeyError):
        around(replace).perform(job, worker=None, job=None)


def test_an_exception_before_the_yield_fails_the_job_without_running_it():
    ran = []

    def switched_off() -> Any:
        raise PermissionError("switched off")
        yield

    with pytest.raises(PermissionError):
        around(switched_off).perform(lambda: ran.append(1), worker=None, job=None)
    assert ran == []


def test_a_wrapper_that_does_not_yield_fails_the_job():
    ran = []

    def perform_job(job: bool) -> Any:
        if job:
            yield

    with pytest.raises(RuntimeError, match="did not yield"):
        around(perform_job).perform(lambda: ran.append(1), worker=None, job=False)
    assert ran == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_wrapper_that_yields_twice_fails_the_job(fails):
    def perform_job() -> Any:
        with contextlib.suppress(ValueError):
            yield
        yield

    def job() -> None:
        if fails:
            raise ValueError

    with pytest.raises(RuntimeError, match="has second yield"):
        around(perform_job).perform(job, worker=None, job=None)
