"""Plugins that spoil what arbiter and fork server stand on: both go on, and can be stopped."""

from __future__ import annotations

import pytest

RAISING_SINKS = {
    "a sink that raises": "logger.add(broken, catch=False)",
    "a patcher that raises": "logger.configure(patcher=broken)",
    "no sink at all": "logger.remove()",
    "nothing from resqued": "logger.disable('resqued')",
}

SPOILT_LOG = """
    from loguru import logger

    def broken(record):
        raise SystemExit("the plugin's own")

    def arbiter_started(arbiter):
        {spoil}

    def app_loaded(generation):
        {spoil}
"""


@pytest.mark.parametrize("spoil", RAISING_SINKS.values(), ids=RAISING_SINKS)
def test_what_is_done_to_logurus_logger_does_not_reach_our_log(resqued, queue, spoil):
    app = resqued("-r", "harness.jobs", config=SPOILT_LOG.format(spoil=spoil))
    app.wait_for_workers(1)
    app.signal("HUP")
    app.wait_for(r"gen=2 in service")
    queue().enqueue("harness.jobs.noop")
    app.wait_for(r"gen=1 retired")
    assert app.stop("QUIT") == 0
    app.wait_for(r"bye, exit code 0", timeout=1)
