"""Threads of plugins that never end: no process of the command outlives its work for them."""

from __future__ import annotations

import os
import textwrap

import pytest

from harness.command import run
from harness.waiting import wait_for_exit

THREAD = "threading.Thread(target=time.sleep, args=(3600,)).start()"

PLUGIN = """
    import threading, time
    from resqued import ConfigError

    def {hook}:
        {thread}
        {then}
"""


def plugin(hook: str, then: str = "pass") -> str:
    return textwrap.dedent(PLUGIN.format(hook=hook, thread=THREAD, then=then))


REFUSED = {
    "by the hook itself": plugin("arbiter_started(arbiter)", "raise ConfigError('no licence')"),
    "by configure": plugin("configure(config)", "raise ConfigError('workers', 'too few')"),
    "by an error in add_options": plugin("add_options(options)", "1 / 0"),
    "by the import": f"import threading, time\n{THREAD}\nraise ValueError('on purpose')\n",
}


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED)
def test_a_refused_start_does_not_wait_for_them(resqued, config):
    arbiter = resqued(config=config, expect_errors=".")
    assert arbiter.exit(15) == os.EX_CONFIG


def test_a_start_that_fails_later_does_not_wait_for_them(resqued):
    config = plugin("arbiter_started(arbiter)")
    arbiter = resqued("-r", "missing_module", config=config, expect_errors=".")
    assert arbiter.exit(25) == os.EX_CONFIG


@pytest.mark.parametrize("words", [["--check"], ["--list-plugins"], ["--help"]], ids=str)
@pytest.mark.parametrize("hook", ["add_options(options)", "configure(config)"])
def test_no_command_waits_for_them(tmp_path, valkey, words, hook):
    (tmp_path / "resqued.conf.py").write_text(plugin(hook))
    code, _, err = run(*words, cwd=tmp_path, timeout=20, RQ_REDIS_URL=valkey.url)
    assert code == 0, err


def test_one_that_is_left_in_a_fork_server_does_not_hold_up_the_end(resqued):
    config = plugin("app_loaded()")
    arbiter = resqued(config=config, expect_errors="thread")
    arbiter.wait_for_workers(1)
    assert arbiter.stop("QUIT", timeout=15) == 0


def test_one_that_is_left_in_a_worker_does_not_hold_up_the_end(resqued):
    arbiter = resqued("--grace", 5, config=plugin("after_fork()"), expect_errors="thread")
    arbiter.wait_for_workers(1)
    assert arbiter.stop("QUIT", timeout=15) == 0
    assert wait_for_exit(arbiter.process) == 0
