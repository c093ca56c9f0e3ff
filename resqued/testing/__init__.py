"""Tests of plugins: facts to give to hooks, a stand-in for the arbiter, a real `resqued`.

    from resqued.testing import FakeArbiter, call, make_worker, start_resqued

`call` calls one hook of a plugin, checked as in production. `start_resqued` is a fixture of pytest,
in the tests that import it; nothing else here needs pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resqued.testing.arbiter import FakeArbiter, FakeRequest, FakeTimer
from resqued.testing.duties import FakeDuties, make_duty
from resqued.testing.facts import (
    make_cron_facts,
    make_exit,
    make_generation,
    make_job,
    make_outcome,
    make_queue_counts,
    make_queue_facts,
    make_redis_facts,
    make_schedule_facts,
    make_worker,
)
from resqued.testing.hook_call import call
from resqued.testing.service import RunningResqued, WaitedTooLong
from resqued.testing.settings import make_config, make_draft

if TYPE_CHECKING:
    from resqued.testing.fixture import start_resqued

__all__ = [
    "FakeArbiter",
    "FakeDuties",
    "FakeRequest",
    "FakeTimer",
    "RunningResqued",
    "WaitedTooLong",
    "call",
    "make_config",
    "make_cron_facts",
    "make_draft",
    "make_duty",
    "make_exit",
    "make_generation",
    "make_job",
    "make_outcome",
    "make_queue_counts",
    "make_queue_facts",
    "make_redis_facts",
    "make_schedule_facts",
    "make_worker",
    "start_resqued",
]


def __getattr__(name: str) -> Any:
    """The fixture, which alone needs pytest."""
    if name == "start_resqued":
        from resqued.testing.fixture import start_resqued

        return start_resqued
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
