"""The quick set: tests that start no process, found by what their functions lead to.

A test is in it unless its code, a fixture of its, or a function of the tests that either leads to,
names something that starts a process, or it is marked `processes`. While a test of the quick set
runs with `--quick`, whatever starts a process raises, and fails the test.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = str(Path(__file__).parents[1])

STARTERS = frozenset({"fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "Popen"})
"""Names, wherever they come from, that start a process."""

EVENTS = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
)
"""Of the interpreter's audit, raised before a process is started."""

_leads: dict[Any, bool] = {}


def leads_to_a_process(thing: Any) -> bool:
    """Whether a function or class of the tests names what starts a process, or leads to one that
    does. What is not of the tests is not looked into."""
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(thing, classmethod | staticmethod):
        thing = thing.__func__
    if isinstance(thing, property):
        thing = thing.fget
    if isinstance(thing, types.MethodType):
        thing = thing.__func__
    if not isinstance(thing, type | types.FunctionType) or not _is_of_the_tests(thing):
        return False
    if thing not in _leads:
        _leads[thing] = False  # meanwhile, where functions call each other
        if isinstance(thing, type):
            _leads[thing] = any(map(leads_to_a_process, vars(thing).values()))
        else:
            names = set(_names(thing.__code__))
            _leads[thing] = bool(names & STARTERS) or any(
                value is subprocess or leads_to_a_process(value) for value in _values(thing, names)
            )
    return _leads[thing]


def _is_of_the_tests(thing: type | types.FunctionType) -> bool:
    if isinstance(thing, types.FunctionType):
        return thing.__code__.co_filename.startswith(TESTS)
    return _file(sys.modules.get(thing.__module__)).startswith(TESTS)


def _values(function: types.FunctionType, names: set[str]) -> Iterator[Any]:
    """What the names in a function stand for, in its module and in modules of the tests."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if _is_full(cell))
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield from _and_members(value)
        if isinstance(value, types.ModuleType) and _file(value).startswith(TESTS):
            for each in names & vars(value).keys():
                yield from _and_members(getattr(value, each))


def _and_members(value: Any, around: tuple[int, ...] = ()) -> Iterator[Any]:
    """A value, and what a table of the tests holds. around: the tables that it is in, by `id`: one
    may hold itself."""
    yield value
    if isinstance(value, dict | list | tuple) and id(value) not in around:
        for each in value.values() if isinstance(value, dict) else value:
            yield from _and_members(each, (*around, id(value)))


def _file(module: types.ModuleType | None) -> str:
    return str(getattr(module, "__file__", None))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def _is_full(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def is_quick(item: pytest.Item) -> bool:
    """Whether a collected test is in the quick set."""
    if item.get_closest_marker("processes"):
        return False
    functions = [getattr(item, "function", None), getattr(item, "cls", None)]
    info = getattr(item, "_fixtureinfo", None)
    if info is not None:
        functions += [each.func for defs in info.name2fixturedefs.values() for each in defs]
    return not any(map(leads_to_a_process, functions))


class Guard:
    """Raises for every start of a process while a test runs. Cannot be taken away again."""

    def __init__(self) -> None:
        self._running = ""
        self._started: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._running and event in EVENTS:
            self._started.append(event)
            raise RuntimeError(f"{event} in {self._running}, which is in the quick set")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        self._running, self._started = item.nodeid, []
        try:
            result = yield
        finally:
            self._running = ""
        if self._started:
            pytest.fail(f"{self._started}: mark the test `processes`", pytrace=False)
        return result


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests that start no process")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        config.pluginmanager.register(Guard(), "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        others = [item for item in items if not is_quick(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if is_quick(item)]
