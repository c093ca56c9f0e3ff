"""The contract: that it is whole, and that each hook says its five facts."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from resqued import hookspecs
from resqued.command.listings import facts_of, kind_of
from resqued.hookspecs import CORE, LIFE_CYCLE
from resqued.plugins.registry import load_plugins

HOOKS = [hook for names in LIFE_CYCLE.values() for hook in names]

PROCESSES = {"command line", "arbiter", "fork server", "worker", "job's process", "every process"}

DECISIONS = {
    "signal_received",
    "control",
    "choose_queues",
    "worker_count",
    "worker_stuck",
    "should_recycle",
}


def test_the_life_cycle_names_every_hook_in_the_order_of_the_file():
    defined = [name for name, value in vars(hookspecs).items() if hasattr(value, "resqued_spec")]
    assert sorted(defined) == sorted(HOOKS)
    lines = [getattr(hookspecs, hook).__code__.co_firstlineno for hook in HOOKS]
    assert lines == sorted(lines)


def test_the_banners_of_the_file_are_those_of_the_listing():
    source = inspect.getsource(hookspecs)
    assert re.findall(r"^# --- (.+?) -+$", source, re.MULTILINE) == list(LIFE_CYCLE)


def test_five_hooks_are_the_core():
    assert len(CORE) == 5
    assert set(HOOKS) >= CORE


@pytest.mark.parametrize("hook", HOOKS)
def test_a_docstring_says_its_five_facts_in_order(hook):
    facts = facts_of(hook)
    assert facts.purpose.endswith(".")
    assert facts.process in PROCESSES
    assert facts.returns.startswith("Return ")
    assert facts.raises.startswith("If it raises: ")
    first_line = inspect.getdoc(getattr(hookspecs, hook)).splitlines()[0]
    assert first_line == facts.purpose, "what a hook is for fits on its first line"
    assert len(first_line) <= 90


@pytest.mark.parametrize("hook", HOOKS)
def test_every_argument_is_explained_and_typed(hook):
    facts = facts_of(hook)
    signature = inspect.signature(getattr(hookspecs, hook))
    for name, parameter in signature.parameters.items():
        assert re.search(rf"\b{name}\b[:,]", facts.arguments), name
        assert parameter.annotation is not parameter.empty
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("hook", HOOKS)
def test_the_kind_is_what_the_docstring_says(hook):
    kind = kind_of(load_plugins([], autoload=False), hook)
    returns = facts_of(hook).returns
    if hook in DECISIONS:
        assert kind == "first"
        assert "None" in returns
    elif hook == "perform_job":
        assert kind == "wrap"
    elif hook == "order_queues":
        assert kind == "chain"
        assert "None" in returns
    else:
        assert kind == "all"
        assert returns.startswith("Return nothing")


def test_the_contract_imports_pluggy_and_nothing_else():
    tree = ast.parse(inspect.getsource(hookspecs))
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"__future__", "typing", "pluggy"}
