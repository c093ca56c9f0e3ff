"""Plugins that are refused for what their hooks are, and the ways in which one can be named."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from resqued.plugins.candidates import AskedPlugin
from resqued.plugins.registry import PluginError, Plugins, load_plugins
from resqued.settings.configfile import execute

HEAD = "import functools\nfrom resqued import hookimpl\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into an empty working directory; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(HEAD + textwrap.dedent(text))
        return path

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def load(*words: str) -> Plugins:
    return load_plugins(words, autoload=False)


def error_of(*words: str) -> str:
    with pytest.raises(PluginError) as caught:
        load(*words)
    [error] = caught.value.errors
    return error


ASYNC = "is an async function, and nothing would await it."
GENERATOR = "is a generator function, of which nothing would run."
OBJECT = "and only functions and methods are called."


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("@hookimpl\nasync def after_job(job): pass", "mine.py:3", ASYNC),
        ("@hookimpl\nasync def after_job(job): yield", "mine.py:3", ASYNC),
        ("@hookimpl\ndef after_job(job): yield", "mine.py:3", GENERATOR),
        ("@hookimpl(wrapper=True)\nasync def perform_job(job): yield", "mine.py:3", ASYNC),
        ("@hookimpl\ndef tick():\n    yield from ()", "mine.py:3", GENERATOR),
        ("def tick(a): pass\ntick = hookimpl(functools.partial(tick, 1))", "", OBJECT),
    ],
)
def test_a_hook_is_a_plain_function(write, text, place, what):
    write("mine.py", text)
    error = error_of("./mine.py")
    assert what in error
    assert error.startswith(f"plugin 'mine' ({place}): " if place else "plugin 'mine': tick is")


def test_so_is_a_method_and_the_remedy_is_told(write):
    write(
        "mine.py",
        """
        class Metrics:
            @hookimpl
            async def worker_exited(self, worker): pass
        metrics = Metrics()
        """,
    )
    assert error_of("mine:metrics") == (
        "plugin 'mine:metrics' (mine.py:5): worker_exited is an async function, and nothing would"
        " await it.\n  Write a plain one (def); asyncio.run() runs in it what is async."
    )


def test_an_object_that_can_be_called_is_no_hook(write):
    write(
        "mine.py",
        """
        class Count:
            def __call__(self, now): pass
        class Metrics:
            tick = hookimpl(Count())
        metrics = Metrics()
        """,
    )
    assert error_of("mine:metrics") == (
        "plugin 'mine:metrics': tick is an object of Count, and only functions and methods are"
        " called.\n  Write `def tick(...)` with @hookimpl, and call the object in it."
    )


def test_an_async_function_in_the_config_file(write):
    path = write("resqued.conf.py", "async def tick(now): pass\n")
    with pytest.raises(PluginError) as caught:
        load_plugins([], config_module=execute(str(path)).module)
    assert caught.value.errors[0].startswith(
        "plugin 'resqued.conf.py' (resqued.conf.py:3): tick is an async function"
    )


@pytest.mark.parametrize(
    ("value", "kind"), [("functools.partial(print, 1)", "partial"), ("[].append", "")]
)
def test_an_object_in_the_config_file_that_has_the_name_of_a_hook(write, value, kind):
    path = write("resqued.conf.py", f"class A:\n    def b(self): pass\ntick = {value}\n")
    module = execute(str(path)).module
    if not kind:  # of the interpreter: hardly meant
        assert load_plugins([], config_module=module).found[0].hooks == ()
        return
    with pytest.raises(PluginError, match=f"tick is an object of {kind}, and only functions that"):
        load_plugins([], config_module=module)


@pytest.mark.parametrize(
    "text",
    [
        "class Odd:\n    def __eq__(self, other): raise OSError('odd')\nodd = Odd()",
        "class Odd:\n    def __getattr__(self, name): raise OSError('odd')\nodd = Odd()",
        "import asyncio\nraise asyncio.CancelledError('odd')",
    ],
)
def test_whatever_an_import_or_an_object_raises_is_told(write, text):
    write("other.py", "@hookimpl\ndef tick(): pass\n")
    write("mine.py", text)
    error = error_of("./other.py", "./mine.py:odd")
    assert error.startswith("plugin 'mine:odd' (-p ./mine.py:odd) failed to import.")
    assert "odd" in error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("async def inner(job): pass", "coroutine"),
        ("def inner(job): yield", "generator"),
        ("async def inner(job): yield", "coroutine"),
    ],
)
def test_behind_a_decorator_it_is_found_by_what_it_returns(write, log_lines, text, kind):
    write("mine.py", f"{text}\n@hookimpl\ndef after_job(job): return inner(job)\n")
    load("./mine.py").hooks().tell("after_job", worker=None, job=None, outcome=None)
    assert (
        f"hook after_job: plugin 'mine' returned a {kind}, but nothing runs it: after_job is a"
        " plain function (mine.py:4); ignored\n"
    ) in log_lines


def test_a_wrapper_behind_a_decorator_is_refused_and_not_fatal(write):
    write(
        "mine.py",
        """
        def counted(function):
            @functools.wraps(function)
            def inner(job): return function(job)
            return inner
        @hookimpl(wrapper=True)
        @counted
        def perform_job(job): return (yield)
        """,
    )
    assert "perform_job must be a wrapper." in error_of("./mine.py")


# --- MODULE:OBJECT ---------------------------------------------------------------------------

OBJECTS = """
class Counter:
    @hookimpl
    def tick(self, now): pass
class box:
    inner = Counter()
counter = Counter()
other = Counter()
nothing = None
"""


@pytest.mark.parametrize("name", ["mine:counter", "mine:box.inner", "./mine.py:counter"])
def test_an_object_in_a_module_can_be_named(write, name):
    write("mine.py", OBJECTS)
    [plugin] = load(name).found[:1]
    assert plugin.name == name.replace("./mine.py", "mine")
    assert plugin.hooks == ("tick",)
    assert plugin.word == "mine"
    assert plugin.file == str(Path("mine.py").resolve())


def test_two_objects_of_one_module_are_two_plugins(write):
    write("mine.py", OBJECTS)
    plugins = load("mine:counter", "mine:other", "mine:counter")
    assert [each.name for each in plugins.loaded()] == ["mine:counter", "mine:other"]


def test_an_object_is_blocked_by_its_name(write):
    write("mine.py", OBJECTS)
    plugins = load("mine:counter", "mine:other", "no:mine:other")
    assert [each.name for each in plugins.loaded()] == ["mine:counter"]
    assert plugins.warnings == []
    plugins = load("mine:counter", "mine:other", "no:mine")
    assert plugins.loaded() == []
    assert plugins.warnings == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mine:conter", "module mine has no object 'conter'. Did you mean 'counter'?"),
        ("mine:box.iner", "module mine has no object 'box.iner'. Did you mean 'inner'?"),
        ("mine:", "module mine has no object; write MODULE:OBJECT."),
        ("mine:Counter", "resolves to the class Counter; point it at an instance (Counter())"),
        ("mine:nothing", "is None; point it at a module or an object."),
        ("./mine.py:conter", "has no object 'conter'. Did you mean 'counter'?"),
    ],
)
def test_an_object_that_is_not_there(write, name, what):
    write("mine.py", OBJECTS)
    error = error_of(name)
    assert error.startswith(f"plugin '{name.replace('./mine.py', 'mine')}' (-p {name})")
    assert what in error


def test_an_object_in_a_module_that_is_not_there(write):
    write("mine.py", OBJECTS)
    with pytest.raises(PluginError) as caught:
        load_plugins([AskedPlugin("mina:counter", "RESQUED_PLUGINS")])
    assert caught.value.errors[0].startswith(
        "no plugin 'mina:counter' (asked for by mina:counter in RESQUED_PLUGINS)."
    )


def test_a_property_that_raises_is_refused_and_not_fatal(write):
    write(
        "mine.py",
        """
        class Odd:
            @property
            def add_hookspecs(self): raise ValueError("odd")
            @hookimpl
            def tick(self): pass
        odd = Odd()
        """,
    )
    assert "add_hookspecs raised ValueError: odd" in error_of("mine:odd")
