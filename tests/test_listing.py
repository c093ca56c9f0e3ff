"""`--list-hooks` and `--list-plugins`, as a user reads them."""

from __future__ import annotations

import json
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

import resqued
from resqued.command.listings import NoSuchHook, list_hooks, list_plugins
from resqued.hookspecs import CORE, LIFE_CYCLE
from resqued.plugins.registry import PluginError, Plugins, load_plugins

HOOKS = [hook for names in LIFE_CYCLE.values() for hook in names]

PLUGIN = """
from resqued import hookimpl

@hookimpl
def choose_queues(config, number, count):
    return None

@hookimpl
def after_fork(worker):
    pass
"""

VERSIONS = f"resqued {resqued.__version__}, pluggy {metadata.version('pluggy')}"


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """A plugin in a file, the built-ins without recycle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "canary.py").write_text(PLUGIN)
    return load_plugins(["./canary.py", "no:recycle"])


def test_hooks_are_listed_in_life_cycle_order_under_their_banners(plugins):
    lines = list_hooks(plugins).splitlines()
    assert lines[0] == f"{VERSIONS}: 31 hooks, 7 plugins"
    listed = [line[2:].split("(")[0] for line in lines if line[2:].partition("(")[0] in HOOKS]
    assert listed == HOOKS
    assert [line for line in lines if line in LIFE_CYCLE] == list(LIFE_CYCLE)
    starred = [line[2:].split("(")[0] for line in lines if line.startswith("* ") and ")" in line]
    assert set(starred) == CORE


def test_a_hook_shows_its_process_its_kind_and_who_uses_it(plugins):
    text = list_hooks(plugins)
    assert (
        "* choose_queues(config, number, count)                           arbiter, first\n"
        "      Decide which queues worker `number` of `count` serves, most urgent first.\n"
        "      used by: canary > shares\n"
    ) in text
    assert (
        "  perform_job(worker, job)                                  job's process, wrap\n"
        "      Wrap the job: yield once, and the job runs there.\n"
    ) in text
    assert "\nOne hook in full: resqued --list-hooks=after_fork" in text


def test_nothing_is_wider_than_a_terminal(plugins):
    texts = [list_hooks(plugins), list_plugins(plugins)]
    texts += [list_hooks(plugins, hook) for hook in HOOKS]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 79


def test_one_hook_in_full(plugins):
    assert list_hooks(plugins, "choose_queues") == textwrap.dedent(
        """\
        * choose_queues(config, number, count)  [arbiter, first]

          Decide which queues worker `number` of `count` serves, most urgent first.
          Runs in the arbiter, for the plan, before a worker is asked for. Must not
              block.
          config: the settings in force. number: 1..count. count: the target number of
              workers.
          Return a list of queue names, or None to let another plugin decide; the first
              list wins.
          If it raises: logged, and the next plugin is asked.

        In a config file; in a plugin put @hookimpl before it:
          def choose_queues(number, count):
              return ["reports"] if number == count > 1 else None  # the last worker

        Called in this order:
          1. canary  ./canary.py:4
          2. shares  resqued_plugins/shares.py:12"""
    )
    assert list_hooks(plugins, "tick").endswith("\nNo plugin implements it.")


def test_the_order_shown_is_the_order_of_the_calls(tmp_path, plugins):
    text = """
        from resqued import hookimpl
        @hookimpl{order}
        def choose_queues(config): config.append("{name}")
    """
    orders = {"one": "(tryfirst=True)", "two": "", "three": "", "four": "(trylast=True)"}
    for name, order in orders.items():
        plugin = textwrap.dedent(text).format(order=order, name=name)
        (tmp_path / f"{name}.py").write_text(plugin)
    plugins = load_plugins([f"./{name}.py" for name in orders], autoload=False)
    called: list[str] = []
    plugins.hooks().ask("choose_queues", config=called, number=1, count=1)
    assert called == ["one", "three", "two", "four"]
    assert "used by: one > three > two > four\n" in list_hooks(plugins)


def test_a_hook_that_does_not_exist(plugins):
    with pytest.raises(NoSuchHook, match=r"there is no hook 'after_frok'. Did you mean 'after_fo"):
        list_hooks(plugins, "after_frok")


def test_hooks_for_machines(plugins):
    facts = {each["name"]: each for each in json.loads(list_hooks(plugins, as_json=True))}
    assert list(facts) == HOOKS
    chosen = facts["choose_queues"]
    assert chosen["arguments"] == ["config", "number", "count"]
    assert (chosen["banner"], chosen["process"], chosen["kind"]) == ("Arbiter", "arbiter", "first")
    assert chosen["core"] is True
    assert list(chosen["doc"]) == ["purpose", "runs", "arguments", "returns", "raises"]
    assert chosen["used_by"][0] == {"plugin": "canary", "place": "canary.py:4"}
    [one] = json.loads(list_hooks(plugins, "tick", as_json=True))
    assert one["name"] == "tick"


def test_plugins_are_listed_in_call_order_then_those_that_are_not_active(plugins):
    rq = metadata.version("rq")
    assert list_plugins(plugins) == textwrap.dedent(
        f"""\
        {VERSIONS}, rq {rq}: 7 plugins
          canary           ./canary.py (-p ./canary.py)
                           choose_queues, after_fork
          watchdog         built in
                           worker_stuck
          shares           built in
                           choose_queues
          reload           built in
                           add_options, configure, arbiter_started, arbiter_ready,
                           arbiter_stopping
          logs             built in
                           signal_received
          http             built in
                           add_options, configure, arbiter_started, fork_server_env,
                           arbiter_ready, generation_failed, before_exec,
                           worker_exited, job_lost, arbiter_stopping, arbiter_exited
          cron             built in
                           add_options, before_load, app_loaded, duties
        - django           built in; only when asked for: -p django
        - embedded         built in; only when asked for: -p embedded
        - systemd          built in; only when asked for: -p systemd
        - recycle          built in; blocked by -p no:recycle

        - not active; call order per hook: resqued --list-hooks"""
    )


def test_a_broken_plugin_is_listed_with_its_error(tmp_path, plugins):
    (tmp_path / "otel.py").write_text("import opentelemetry_x\n")
    with pytest.raises(PluginError) as error:
        load_plugins(["./otel.py", "no:recycle"])
    text = list_plugins(error.value.plugins)
    assert (
        "! otel             ./otel.py (-p ./otel.py); not loaded:\n"
        "                   ModuleNotFoundError: No module named 'opentelemetry_x'\n"
    ) in text
    assert "\n- not active, ! could not be loaded; call order per hook: " in text


def test_a_long_name_keeps_the_columns(tmp_path, plugins):
    package = tmp_path / "a_company_with_a_long_name"
    package.mkdir()
    (package / "metrics_of_everything.py").write_text(PLUGIN)
    plugins = load_plugins(["a_company_with_a_long_name.metrics_of_everything"])
    lines = list_plugins(plugins).splitlines()
    assert lines[1] == "  a_company_with_a_long_name.metrics_of_everything"
    path = "./a_company_with_a_long_name/metrics_of_everything.py"
    assert f"{' ' * 19}{path} (" in lines[2], "a path is not broken, so that it can be copied"


def test_plugins_for_machines(plugins):
    facts = {each["name"]: each for each in json.loads(list_plugins(plugins, as_json=True))}
    assert facts["canary"]["status"] == "loaded"
    assert facts["canary"]["hooks"] == ["choose_queues", "after_fork"]
    assert Path(facts["canary"]["file"]).name == "canary.py"
    assert facts["recycle"]["status"] == "blocked"
    assert facts["recycle"]["note"] == "blocked by -p no:recycle"
    assert facts["shares"]["distribution"] == "resqued"


DECLARES = """
from resqued import hookimpl, hookspec

class Specs:
    @hookspec(firstresult=True)
    def rota_entries(self, config, zone):
        \"\"\"The jobs to enqueue
        by the clock.

        zone: of the times.
        \"\"\"

def add_hookspecs(manager):
    manager.add_hookspecs(Specs)
"""


@pytest.fixture
def declaring(tmp_path, plugins) -> Plugins:
    """A plugin that declares a hook, and one that implements it."""
    (tmp_path / "rota.py").write_text(DECLARES)
    implemented = "@hookimpl\ndef rota_entries(zone): return [zone]\n"
    (tmp_path / "jobs.py").write_text(f"from resqued import hookimpl\n{implemented}")
    return load_plugins(["./jobs.py", "./rota.py"])


def test_hooks_that_a_plugin_declares_are_listed_below_its_name(declaring):
    text = list_hooks(declaring)
    assert text.startswith(f"{VERSIONS}: {len(HOOKS) + 1} hooks, 9 plugins\n")
    below = text.partition("\nOf plugin 'rota'\n")[2]
    assert below.startswith(
        "  rota_entries(config, zone)                                              first\n"
        "      The jobs to enqueue by the clock.\n"
        "      used by: jobs\n"
    )
    assert declaring.warnings == []


def test_such_a_hook_in_full(declaring):
    assert list_hooks(declaring, "rota_entries") == (
        "rota_entries(config, zone)  [first]\n\n"
        "  The jobs to enqueue\n  by the clock.\n\n  zone: of the times.\n\n"
        "Called in this order:\n  1. jobs  ./jobs.py:2"
    )
    with pytest.raises(NoSuchHook, match="Did you mean 'rota_entries'"):
        list_hooks(declaring, "rota_entry")


def test_such_a_hook_for_machines(declaring):
    [facts] = json.loads(list_hooks(declaring, "rota_entries", as_json=True))
    assert facts["declared_by"] == "rota"
    assert facts["banner"] == "Of plugin 'rota'"
    assert facts["doc"] == {"text": "The jobs to enqueue\nby the clock.\n\nzone: of the times."}
    assert [each["plugin"] for each in facts["used_by"]] == ["jobs"]
    own = json.loads(list_hooks(declaring, "tick", as_json=True))[0]
    assert own["declared_by"] is None
