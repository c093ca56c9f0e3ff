"""Hooks that plugins declare for other plugins: found in any order, checked, contained."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from resqued.plugins.registry import PluginError, Plugins, load_plugins
from resqued.settings.configfile import execute

DECLARES = """
from resqued import hookimpl, hookspec

class Specs:
    @hookspec
    def rota_entries(self, config, zone):
        "The jobs to enqueue by the clock."

def add_hookspecs(manager):
    manager.add_hookspecs(Specs)
    global hooks
    hooks = manager.hook

@hookimpl
def tick(now):
    return hooks.rota_entries(config=None, zone="UTC")
"""
IMPLEMENTS = """
from resqued import hookimpl

@hookimpl
def rota_entries({arguments}):
    return "{word}"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into an empty working directory; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(write, tmp_path):
    """Install a module as the entry point `name`, of the distribution `acme-name`."""

    def install(name: str, text: str) -> None:
        info = f"site/acme_{name}-1.0.dist-info"
        write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.0\n")
        write(f"{info}/entry_points.txt", f"[resqued]\n{name} = acme_{name}\n")
        write(f"site/acme_{name}.py", text)

    (tmp_path / "site").mkdir()
    return install


def told(*words: str, **more) -> list[str]:
    with pytest.raises(PluginError) as caught:
        load_plugins(words, **more)
    return caught.value.errors


def entries(plugins: Plugins) -> list[str]:
    found: list[str] = plugins.manager.hook.rota_entries(config=None, zone="")
    return found


@pytest.mark.parametrize("words", [["./a.py", "./rota.py"], ["./rota.py", "./a.py"]])
def test_the_order_in_which_plugins_are_named_does_not_matter(write, words):
    write("rota.py", DECLARES)
    write("a.py", IMPLEMENTS.format(arguments="zone", word="a"))
    plugins = load_plugins(words)
    assert plugins.warnings == []
    assert plugins.declared == {"rota": ("rota_entries",)}
    assert entries(plugins) == ["a"]
    assert plugins.manager.get_plugin("rota").tick(0.0) == ["a"]


def test_installed_plugins_and_the_config_file_implement_them_too(write, install):
    install("aaa", IMPLEMENTS.format(arguments="", word="aaa"))
    install("rota", DECLARES)
    install("zzz", IMPLEMENTS.format(arguments="config, zone", word="zzz"))
    config = execute(str(write("resqued.conf.py", "def rota_entries(zone): return 'file'\n")))
    plugins = load_plugins([], config_module=config.module)
    assert entries(plugins) == ["file", "zzz", "aaa"]
    assert plugins.found[0].hooks == ("rota_entries",)


def test_the_config_file_declares_some_too(write):
    write("a.py", IMPLEMENTS.format(arguments="zone", word="a"))
    config = execute(str(write("resqued.conf.py", DECLARES)))
    plugins = load_plugins(["./a.py"], config_module=config.module)
    assert plugins.declared == {"resqued.conf.py": ("rota_entries",)}
    assert entries(plugins) == ["a"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            IMPLEMENTS.format(arguments="zoen", word=""),
            "rota_entries has no argument 'zoen'. Did you mean 'zone'?\n"
            "  It offers rota_entries(config, zone);",
        ),
        (
            IMPLEMENTS.replace("rota_entries", "rota_entrys").format(arguments="", word=""),
            "implements an unknown hook 'rota_entrys'.\n  Did you mean rota_entries(config, zone)?",
        ),
    ],
)
def test_what_is_wrong_with_one_is_told_as_of_any_hook(write, text, what):
    write("rota.py", DECLARES)
    write("a.py", text)
    [error] = told("./a.py", "./rota.py")
    assert what in error


def test_a_slip_in_the_config_file_is_told(write):
    write("rota.py", DECLARES)
    config = execute(str(write("resqued.conf.py", "def rota_entrie(zone): pass\n")))
    [error] = told("./rota.py", config_module=config.module)
    assert "Did you mean rota_entries(config, zone)?" in error


def test_without_the_plugin_they_may_be_optional(write):
    text = IMPLEMENTS.format(arguments="zone", word="a")
    write("a.py", text.replace("@hookimpl", "@hookimpl(optionalhook=True)"))
    write("b.py", text)
    assert load_plugins(["./a.py"]).found[0].hooks == ("rota_entries",)
    [error] = told("./b.py")
    assert "or of a plugin that may be absent: @hookimpl(optionalhook=True)." in error


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("1 / 0", "add_hookspecs raised ZeroDivisionError: division by zero (rota.py:2)"),
        ("raise SystemExit(3)", "add_hookspecs raised SystemExit: 3 (rota.py:2)"),
        ("yield", "add_hookspecs raised TypeError: it is an async or generator function; write"),
        ("manager.add_hookspecs(manager)", "add_hookspecs raised ValueError: did not find any"),
        ("from resqued import hookspecs\n    hookspecs.hookspec(hookspecs.tick)", ""),
    ],
)
def test_one_that_raises_is_refused_and_named(write, body, what):
    write("rota.py", f"def add_hookspecs(manager):\n    {body}\n")
    if not what:
        assert load_plugins(["./rota.py"]).warnings == []
        return
    [error] = told("./rota.py")
    assert error.startswith(f"plugin 'rota' (-p ./rota.py): {what}")


def test_a_hook_of_resqued_cannot_be_declared_again(write):
    write("rota.py", DECLARES.replace("rota_entries", "worker_ready"))
    [error] = told("./rota.py")
    assert "add_hookspecs raised ValueError: Hook 'worker_ready' is already registered" in error


def test_one_that_is_merely_installed_and_raises_is_a_warning(install):
    install("rota", "def add_hookspecs(manager): raise OSError('no clock')\n")
    plugins = load_plugins([])
    assert [info.name for info in plugins.found if info.status == "broken"] == ["rota"]
    assert plugins.warnings[0].startswith(
        "plugin 'rota' (acme-rota 1.0): add_hookspecs raised OSError: no clock (acme_rota.py:1)"
    )


def test_it_is_no_hook_and_needs_no_mark(write):
    write("rota.py", f"{DECLARES}add_hookspecs = hookimpl(add_hookspecs)\n")
    [error] = told("./rota.py")
    assert error.endswith("add_hookspecs is no hook; take the @hookimpl away.")


# --- AUTOLOAD --------------------------------------------------------------------------------

SHY = "AUTOLOAD = False\n" + IMPLEMENTS.format(arguments="", word="").replace(
    "rota_entries", "tick"
)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], "idle"),
        (["shy"], "loaded"),
        (["acme_shy"], "loaded"),
        (["shy", "no:shy"], "blocked"),
        (["no:acme-shy"], "blocked"),
        (["no:shy", "shy"], "loaded"),
    ],
)
def test_one_that_does_not_load_by_itself_is_named(install, words, status):
    install("shy", SHY)
    found = {info.name: info for info in load_plugins(words).found}
    assert found["shy"].status == status
    if status == "idle":
        assert found["shy"].error == "only when asked for: -p shy"


def test_such_a_one_declares_no_hooks_until_then(install):
    install("rota", f"AUTOLOAD = False\n{DECLARES}")
    assert load_plugins([]).declared == {}
    assert load_plugins(["rota"]).declared == {"rota": ("rota_entries",)}
