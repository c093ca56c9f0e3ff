"""The kit for tests of plugins: facts, settings, the stand-in for the arbiter, hook calls."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from unittest import mock

import pytest
from rq.job import Job

from harness.waiting import scaled
from resqued import Arbiter, ConfigError, Kill, VetoFork, Wait, WorkerState, hookimpl, testing
from resqued.testing import (
    FakeArbiter,
    call,
    make_config,
    make_draft,
    make_exit,
    make_generation,
    make_job,
    make_outcome,
    make_queue_facts,
    make_redis_facts,
    make_worker,
)

MAKERS = [
    make_worker,
    make_exit,
    make_generation,
    make_outcome,
    make_queue_facts,
    make_redis_facts,
]


def plugin(**hooks):
    """A plugin with these functions, each marked."""
    return types.SimpleNamespace(**{name: hookimpl(each) for name, each in hooks.items()})


# -- facts


@pytest.mark.parametrize("make", MAKERS)
def test_a_field_that_does_not_exist_is_an_error(make):
    """Each maker refuses a name that is no field, and lists those there are."""
    with pytest.raises(TypeError, match=r"has no field 'colour'\..* It has \w+, "):
        make(colour="red")


def test_a_misspelt_field_is_put_right():
    with pytest.raises(TypeError, match="Did you mean 'job_id'"):
        make_worker(jobid="1")


def test_a_worker_fits_together():
    """State, number and the facts of a job follow from what is given."""
    assert make_worker().state is WorkerState.IDLE
    busy = make_worker(job_id="7", queues=("high", "low"))
    assert busy.state is WorkerState.BUSY
    assert (busy.queue, busy.timeout) == ("high", 180.0)
    assert busy.job_started is not None
    assert make_worker(trial=True).number == 0
    assert make_worker(number=0).trial
    assert make_worker(number=3, job_id="7", queue="low").queue == "low"


def test_an_exit_fits_together():
    """Whether it was expected, and why, follows from code and signal."""
    assert (make_exit().expected, make_exit().reason) == (True, "asked")
    killed = make_exit(signal=9)
    assert (killed.code, killed.expected, killed.reason) == (None, False, "died")
    assert killed.failures_in_a_row == 1
    assert str(killed) == "signal SIGKILL"
    assert not make_exit(code=3).expected
    assert make_exit(signal=9, expected=True).failures_in_a_row == 0


def test_an_outcome_with_an_error_has_failed():
    assert make_outcome().status == "finished"
    assert make_outcome(error=ValueError()).status == "failed"


def test_a_job_needs_no_server():
    job = make_job("operator.add", 1, 2, origin="high")
    assert isinstance(job, Job)
    assert (job.func_name, job.args, job.origin) == ("operator.add", (1, 2), "high")


# -- settings


def declare(options):
    options.add("--tea-kind", default="green", help="Which tea.")
    options.add("--tea-cups", default=[1, 2], type=int)


def test_settings_of_a_plugin_have_their_defaults_and_are_read_as_in_the_config_file():
    tea = plugin(add_options=declare)
    config = make_config(tea, workers=4, tea_kind="black")
    assert (config.workers, config.tea_kind, config.tea_cups) == (4, "black", (1, 2))
    with pytest.raises(ConfigError, match="tea_cups"):
        make_config(tea, tea_cups="many")
    with pytest.raises(TypeError, match=r"no setting 'tea_kindd'\. Did you mean 'tea_kind'"):
        make_config(tea, tea_kindd="black")
    with pytest.raises(TypeError, match="Name its plugin first"):
        make_config(xyzzy=1)


def test_a_draft_can_be_changed_by_configure():
    def configure(config):
        config.workers = 3

    draft = make_draft("statsd")
    assert draft.has_plugin("statsd")
    call(plugin(configure=configure), "configure", config=draft)
    assert draft.workers == 3


def test_plugins_count_as_loaded_and_have_a_folder(tmp_path):
    config = make_config("statsd", plugin(add_options=declare), state=str(tmp_path))
    assert config.has_plugin("statsd")
    assert not config.has_plugin("sentry")
    assert config.state_dir("tea").is_dir()


# -- the stand-in for the arbiter


def test_the_fake_is_an_arbiter_with_every_verb_and_fact():
    """All that the type `resqued.Arbiter` has; that its types fit too is checked by mypy."""
    public = {name for name in vars(Arbiter) if not name.startswith("_")}
    fake = FakeArbiter()
    assert {name for name in public if not hasattr(fake, name)} == set()


def test_verbs_are_recorded_and_their_requests_end_as_the_test_says():
    arbiter = FakeArbiter(workers=[make_worker()])
    grown, reloaded = arbiter.scale(5), arbiter.reload()
    assert arbiter.verbs == [("scale", 5), ("reload",)]
    assert (grown.done, grown.refused, grown.wait(scaled(0))) == (False, None, False)
    arbiter.requests[0].complete()
    arbiter.requests[1].refuse("a newer one")
    assert (grown.done, grown.wait()) == (True, True)
    assert (reloaded.done, reloaded.refused, reloaded.wait()) == (False, "a newer one", False)
    with pytest.raises(RuntimeError, match=r"<reload\(\), refused: a newer one> has ended"):
        arbiter.requests[1].complete()


def test_a_request_may_be_waited_for_in_a_thread_and_not_in_a_hook():
    arbiter = FakeArbiter()
    request = arbiter.drain()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(request.wait(scaled(20))))
    thread.start()
    arbiter.requests[0].complete()
    thread.join()
    assert answers == [True]

    with (
        mock.patch("resqued.testing.arbiter.ENDLESS", 0.01),
        pytest.raises(RuntimeError, match=r"<reload\(\), open> has not ended .* complete\(\)"),
    ):
        FakeArbiter().reload().wait()

    hasty = plugin(tick=lambda arbiter: arbiter.stop().wait(scaled(1)))
    with pytest.raises(RuntimeError, match="in the arbiter's loop"):
        call(hasty, "tick", arbiter=arbiter)


def test_functions_for_the_loop_run_when_the_test_says():
    arbiter = FakeArbiter()
    ran = []
    request = arbiter.call_soon(lambda: ran.append(1))
    assert ran == []
    arbiter.run_soon()
    assert (ran, request.done) == ([1], True)
    bad = arbiter.call_soon(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        arbiter.run_soon()
    assert bad.refused == "ZeroDivisionError: division by zero"


def test_time_passes_for_timers_when_the_test_says():
    arbiter = FakeArbiter()
    ran = []
    slow = arbiter.every(10, lambda: ran.append("slow"))
    arbiter.every(4, lambda: ran.append("quick"))
    arbiter.advance(3)
    assert ran == []
    arbiter.advance(9)
    assert ran == ["quick", "quick", "slow", "quick"]
    arbiter.drop()
    assert slow.done
    arbiter.advance(100)
    assert len(ran) == 4


@pytest.mark.parametrize(
    ("error", "misuse"),
    [
        (TypeError, lambda arbiter: arbiter.scale(2.5)),
        (TypeError, lambda arbiter: arbiter.recycle("1")),
        (TypeError, lambda arbiter: arbiter.call_soon(None)),
        (TypeError, lambda arbiter: arbiter.every(5, None)),
        (ValueError, lambda arbiter: arbiter.every(0, print)),
    ],
)
def test_arguments_that_the_arbiter_refuses_are_refused(error, misuse):
    arbiter = FakeArbiter()
    with pytest.raises(error):
        misuse(arbiter)
    assert (arbiter.verbs, arbiter.soon, arbiter.timers) == ([], [], [])


# -- calling hooks


def test_a_hook_is_called_with_the_arguments_it_names():
    quick = plugin(worker_stuck=lambda overdue, attempt=0: Wait(overdue) if attempt < 1 else Kill)
    some = {"arbiter": FakeArbiter(), "worker": make_worker(), "overdue": 2.0}
    assert call(quick, "worker_stuck", attempt=0, **some) == Wait(2.0)
    assert call(quick, "worker_stuck", attempt=1, **some) is Kill
    assert call(quick, "worker_stuck", overdue=2.0) == Wait(2.0)


def test_what_a_hook_raises_passes():
    def before_fork(worker):
        raise VetoFork("no memory", retry_after=5)

    with pytest.raises(VetoFork, match="no memory"):
        call(plugin(before_fork=before_fork), "before_fork", worker=make_worker())


@pytest.mark.parametrize(
    ("hook", "arguments", "error", "text"),
    [
        ("tikc", {}, LookupError, r"there is no hook 'tikc'\. Did you mean 'tick'\?"),
        ("after_fork", {}, LookupError, r"has no after_fork; its hooks: tick"),
        ("tick", {"arbitr": 1}, TypeError, r"no argument 'arbitr'\. Did you mean 'arbiter'\?"),
        ("tick", {"now": 0.0}, TypeError, r"asks for 'arbiter' in tick\(arbiter, now\)"),
        ("tick", {"arbiter": 1, "run": 1}, TypeError, r"tick has no argument 'run'"),
    ],
)
def test_a_call_that_resqued_would_not_make_is_refused(hook, arguments, error, text):
    with pytest.raises(error, match=text):
        call(plugin(tick=lambda arbiter: None), hook, **arguments)


def test_a_hook_without_a_mark_is_named():
    class Forgetful:
        def tick(self):
            """Not marked."""

        @hookimpl
        def after_fork(self):
            """Marked."""

    with pytest.raises(LookupError, match="has no @hookimpl and is never called"):
        call(Forgetful(), "tick", arbiter=FakeArbiter())


def test_an_answer_that_resqued_would_not_take_is_refused():
    with pytest.raises(TypeError, match=r"returned \[\], but a worker needs a queue"):
        call(
            plugin(choose_queues=lambda: []),
            "choose_queues",
            config=make_config(),
            number=1,
            count=1,
        )
    with pytest.raises(TypeError, match="returned 'two', but worker_count wants"):
        call(plugin(worker_count=lambda: "two"), "worker_count")


def test_a_plugin_that_resqued_would_not_load_is_refused():
    class Tick:
        @hookimpl
        def tick(self, arbitr):
            """A misspelt argument."""

    with pytest.raises(TypeError, match="resolves to the class Tick"):
        call(Tick, "tick", arbiter=FakeArbiter())
    with pytest.raises(TypeError, match=r"tick has no argument 'arbitr'"):
        call(Tick(), "tick", arbiter=FakeArbiter())


def test_a_wrapper_goes_around_the_job():
    class Doubling:
        @hookimpl(wrapper=True)
        def perform_job(self, job):
            return 2 * (yield)

    answer = call(Doubling(), "perform_job", job=make_job(), run=lambda: 21)
    assert answer == 42
    with pytest.raises(ZeroDivisionError):
        call(Doubling(), "perform_job", job=make_job(), run=lambda: 1 / 0)
    with pytest.raises(TypeError, match="asks for 'run'"):
        call(Doubling(), "perform_job", job=make_job())


# -- without pytest


@pytest.mark.processes
def test_only_the_fixture_needs_pytest_and_resqued_needs_none_of_it():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import resqued, resqued.cli\n"
        "assert 'resqued.testing' not in sys.modules\n"
        "import resqued.testing as t\n"
        "[getattr(t, name) for name in t.__all__ if name != 'start_resqued']\n"
        "try: t.start_resqued\n"
        "except ImportError: print('as it should')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("as it should\n", "")
    with pytest.raises(AttributeError, match="no attribute 'stop_resqued'"):
        testing.stop_resqued  # noqa: B018
