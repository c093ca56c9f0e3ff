"""The events of the log: each is documented, has known fields, and is logged with no others."""

from __future__ import annotations

import ast
from pathlib import Path

from resqued.log_events import EVENTS, FIELDS, LogEvent

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "resqued").rglob("*.py"))
CALLS = {"at", "debug", "info", "warn", "warning", "error", "critical", "exception", "log"}
EVERYWHERE = {"worker", "gen", "pid", "traceback"}


def _tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def test_every_event_has_a_meaning_and_every_field_is_documented():
    assert set(EVENTS) == set(LogEvent)
    for event, meaning in EVENTS.items():
        assert set(meaning.fields) <= set(FIELDS), event
        assert len(set(meaning.fields)) == len(meaning.fields), event


def test_no_field_is_documented_in_vain():
    always = {"time", "level", "logger", "message", "details", "process", "event", "traceback"}
    used = {name for meaning in EVENTS.values() for name in meaning.fields}
    assert set(FIELDS) - always == used - always


def test_every_event_is_logged_somewhere():
    text = "".join(path.read_text() for path in SOURCES if path.name != "log_events.py")
    unused = [event for event in LogEvent if f"LogEvent.{event.name}" not in text]
    assert unused == []


def test_calls_give_the_fields_of_their_event():
    nodes = [(path, node) for path in SOURCES for node in ast.walk(_tree(path))]
    for path, node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        events = [
            each.attr
            for each in node.args
            if isinstance(each, ast.Attribute)
            and isinstance(each.value, ast.Name)
            and each.value.id == "LogEvent"
        ]
        if node.func.attr not in CALLS or not events:
            continue
        known = set(EVENTS[LogEvent[events[0]]].fields) | EVERYWHERE | {"more"}
        given = {each.arg for each in node.keywords if each.arg}
        assert given <= known, f"{path.name}:{node.lineno}: {events[0]} has no {given - known}"
