"""The layers: who may import whom, and who may make which system call, by `layers.toml`.

The imports of every module are read from its source, with `ast`; nothing is executed.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("layers.toml")
ROOT = Path(__file__).parents[1]

Places = dict[str, list[str]]


@dataclass
class Table:
    """`layers.toml`; its head says what each section means."""

    imports: Places
    late: Places = field(default_factory=dict)
    types: Places = field(default_factory=dict)
    packages: Places = field(default_factory=dict)
    standard: Places = field(default_factory=dict)
    pure: Places = field(default_factory=dict)
    calls: Places = field(default_factory=dict)


@dataclass(frozen=True)
class Use:
    """An import, or the use of a system call, in one line of a module."""

    section: str  # imports, late, types, or calls
    name: str  # what is imported, or the call, in dotted form
    line: int
    taken: str = ""  # in `from name import taken`


def uses(source: str, watched: set[str]) -> Iterator[Use]:
    """The imports of a module, and the uses of `watched` names such as `os.fork` in it."""
    names: dict[str, str] = {}  # what a name in the module stands for: `from os import kill as k`
    attributes: list[ast.Attribute | ast.Name] = []

    def visit(node: ast.AST, section: str) -> Iterator[Use]:
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for each in node.body:
                    yield from visit(each, "types")
                for each in node.orelse:
                    yield from visit(each, section)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef() if section == "imports":
                section = "late"
            case ast.Import():
                for alias in node.names:
                    package = alias.name.partition(".")[0]
                    names[alias.asname or package] = alias.name if alias.asname else package
                    yield Use(section, alias.name, node.lineno)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{module}.{alias.name}"
                    yield Use(section, module, node.lineno, alias.name)
            case ast.Call(
                func=ast.Name("import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(module)), *_],
            ):
                yield Use("late", module, node.lineno)
            case ast.Attribute() | ast.Name():
                attributes.append(node)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, section)

    yield from visit(ast.parse(source), "imports")
    for node in attributes:
        head, dot, rest = ast.unparse(node).partition(".")
        name = names.get(head, "") + dot + rest
        if name.startswith("resqued.originals."):  # `os.fork` under another address
            name = f"os.{rest}"
        if name in watched:
            yield Use("calls", name, node.lineno)


def room(module: str) -> str:
    """The package or top-level module of `resqued` that a module belongs to."""
    package, _, rest = module.partition(".")
    return (rest.partition(".")[0] or "__init__") if package == "resqued" else package


def violations(table: Table, modules: Mapping[str, str], public: set[str]) -> list[str]:
    """What the table does not permit, and what it permits without need, in these sources.

    public: the names of `resqued` that built-in plugins may import.
    """
    found: list[str] = []
    used: set[tuple[str, str, str]] = set()  # section, key, entry
    present = {room(module) for module in modules}

    def permitted(section: str, key: str, entry: str) -> bool:
        if entry not in getattr(table, section).get(key, ()):
            return False
        used.add((section, key, entry))
        return True

    def complain(module: str, use: Use, text: str) -> None:
        found.append(f"{module}, line {use.line}: {text}")

    def judge_import(module: str, use: Use) -> None:
        here, package = room(module), use.name.partition(".")[0]
        if not package:
            complain(module, use, "a relative import; write the whole name")
        elif package in ("resqued", "resqued_plugins"):
            target = room(use.name)
            if use.name == "resqued" and use.taken in present | set(table.imports):
                target = use.taken
            outward = here == "resqued_plugins" and target != here
            if outward and permitted(use.section, ".".join(module.split(".")[:2]), target):
                return
            if outward and (use.name != "resqued" or use.taken not in public):
                name = f"{use.name}.{use.taken}".rstrip(".")
                complain(module, use, f"{name} is not a public name of resqued")
                return
            if target == here or permitted("imports", here, target):
                return
            if use.section == "imports" or not permitted(use.section, here, target):
                complain(module, use, f"{here} may not import {target} ({use.section})")
        elif package not in sys.stdlib_module_names:
            if use.section != "types" and not permitted("packages", package, here):
                complain(module, use, f"{here} may not import the package {package}")
        else:
            if here in table.pure and not permitted("pure", here, package):
                complain(module, use, f"{here} may not import {package}: it is pure")
            if package in table.standard and not permitted("standard", package, here):
                complain(module, use, f"{here} may not import {package}")

    def judge_call(module: str, use: Use) -> None:
        path = module.removeprefix("resqued.").replace(".", "/")
        places = [path, *(str(parent) for parent in Path(path).parents)]
        if not any([permitted("calls", use.name, place) for place in places]):
            complain(module, use, f"{path} may not use {use.name}")

    for module, source in modules.items():
        if room(module) not in table.imports:
            found.append(f"{module}: the room {room(module)} is not in the table")
        for use in uses(source, set(table.calls)):
            (judge_call if use.section == "calls" else judge_import)(module, use)

    for each in table.imports.keys() - present:
        found.append(f"[imports] {each}: there is no such room")
    order = list(table.imports)
    for each, targets in table.imports.items():
        for target in targets:
            if target not in order[: order.index(each)]:
                found.append(f"[imports] {each} = {target}, which does not stand above it")
    for section in vars(table):
        for key, entries in getattr(table, section).items():
            for entry in entries:
                if (section, key, entry) not in used:
                    found.append(f"[{section}] {key} = {entry}: not needed")
    return sorted(set(found))


def sources() -> dict[str, str]:
    """Every module of `resqued` and of the built-in plugins, by its dotted name."""
    found = {}
    for root in (ROOT, ROOT / "plugins"):
        package = root / ("resqued" if root == ROOT else "resqued_plugins")
        for path in package.rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


def public_names(source: str) -> set[str]:
    """`__all__` of a module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError("no __all__")


def test_every_import_and_system_call_is_permitted_and_every_permission_needed():
    """Compares the sources with `layers.toml`, in both directions."""
    modules = sources()
    table = Table(**tomllib.loads(TABLE.read_text()))
    found = violations(table, modules, public_names(modules["resqued"]))
    assert not found, "\n".join([*found, f"mend the module, or the table: {TABLE}"])


def test_no_linter_settings_stand_beside_the_table():
    """A nested `ruff.toml` replaces its parent's bans; there is none."""
    found = [path for top in ("resqued", "plugins") for path in (ROOT / top).rglob("*ruff.toml")]
    assert not found


# -- that the test sees what it should: made-up sources against a small table

SMALL = Table(
    imports={
        "plain": [],
        "core": ["plain"],
        "shell": ["core", "plain"],
        "__init__": [],
        "resqued_plugins": ["__init__"],
    },
    late={"core": ["shell"]},
    types={"plain": ["core"]},
    packages={"rq": ["shell"]},
    standard={"subprocess": ["shell"]},
    pure={"core": ["enum"]},
    calls={"os.kill": ["shell/kills"], "os.waitpid": ["shell"], "os.system": []},
)

FITTING = {
    "resqued": "",
    "resqued.plain": (
        "import os, signal\nif TYPE_CHECKING:\n    from resqued.core.a import A\n    import rq"
    ),
    "resqued.core.a": (
        "import enum\nfrom resqued import plain\ndef late():\n    from resqued.shell import kills"
    ),
    "resqued.shell.kills": (
        "import os, rq.job, subprocess\nfrom resqued.core import a\nfrom resqued.plain import b\n"
        "os.kill(1, 2)"
    ),
    "resqued.shell.waits": "from resqued import shell\nimport os\nos.waitpid",
    "resqued_plugins.one": "from resqued import Config\nimport os, signal",
}


def judge(**added: str) -> list[str]:
    """The violations when `room__module=source` is added to what fits."""
    modules = FITTING | {
        ("" if name.startswith("resqued_plugins") else "resqued.") + name.replace("__", "."): source
        for name, source in added.items()
    }
    return violations(SMALL, modules, {"Config"})


def test_what_fits_the_table_has_no_violations():
    """The small table and its made-up sources agree, so that below each addition is the cause."""
    assert judge() == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("plain", "import resqued.core.a", "plain may not import core (imports)"),
        ("core__b", "from resqued import shell", "core may not import shell (imports)"),
        ("core__b", "from resqued.shell.kills import k", "core may not import shell (imports)"),
        ("core__b", "class A:\n  import resqued.shell", "core may not import shell (imports)"),
        ("core__b", "if A:\n  pass\nelse:\n  import resqued.shell", "core may not import shell"),
        ("plain", "def late():\n  import resqued.core", "plain may not import core (late)"),
        ("plain", "def f():\n  import_module('resqued.core')", "plain may not import core (late)"),
        ("plain", "if TYPE_CHECKING:\n  from resqued import shell", "import shell (types)"),
        ("shell__b", "from . import kills", "a relative import"),
        ("core__b", "import os", "core may not import os: it is pure"),
        ("core__b", "def late():\n  from time import sleep", "core may not import time"),
        ("core__b", "from rq import Queue", "core may not import the package rq"),
        ("shell__b", "import unheard_of", "shell may not import the package unheard_of"),
        ("plain", "from subprocess import run", "plain may not import subprocess"),
        ("plain", "import os\nos.kill(1, 2)", "plain may not use os.kill"),
        ("shell__b", "import os\ndef f():\n  os.kill(1, 2)", "shell/b may not use os.kill"),
        ("shell__b", "import os.path\nx = os.kill", "shell/b may not use os.kill"),
        ("shell__b", "import os as o\nx = o.kill", "shell/b may not use os.kill"),
        ("shell__b", "from os import kill as k\nk(1, 2)", "shell/b may not use os.kill"),
        ("shell__b", "from resqued import originals\noriginals.kill(1, 2)", "may not use os.kill"),
        ("shell__kills", "import os\nos.system('ls')", "shell/kills may not use os.system"),
        ("resqued_plugins__b", "from resqued import plain", "resqued.plain is not a public name"),
        ("resqued_plugins__b", "import resqued.core", "resqued.core is not a public name"),
        ("resqued_plugins__b", "from resqued.core import a", "resqued.core.a is not a public"),
        ("resqued_plugins__b", "from resqued import other", "resqued.other is not a public name"),
        ("attic__b", "", "the room attic is not in the table"),
        ("attic", "", "the room attic is not in the table"),
    ],
)
def test_each_kind_of_violation_is_found(module: str, source: str, complaint: str):
    """One made-up module that does what the table does not permit is complained of."""
    assert any(complaint in each for each in judge(**{module: source}))


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("resqued.plain", "[types] plain = core: not needed"),
        ("resqued.core.a", "[imports] core = plain: not needed"),
        ("resqued.core.a", "[late] core = shell: not needed"),
        ("resqued.core.a", "[pure] core = enum: not needed"),
        ("resqued.shell.kills", "[packages] rq = shell: not needed"),
        ("resqued.shell.kills", "[standard] subprocess = shell: not needed"),
        ("resqued.shell.kills", "[calls] os.kill = shell/kills: not needed"),
        ("resqued.shell.waits", "[calls] os.waitpid = shell: not needed"),
    ],
)
def test_a_permission_that_nobody_needs_is_found(module: str, complaint: str):
    """With the only module emptied that made use of it, a permission is complained of."""
    assert complaint in violations(SMALL, FITTING | {module: ""}, {"Config"})


def test_a_room_that_is_gone_is_found():
    """A room in the table without a module in the sources is complained of."""
    modules = {name: source for name, source in FITTING.items() if room(name) != "plain"}
    assert "[imports] plain: there is no such room" in violations(SMALL, modules, {"Config"})


def test_two_rooms_that_import_each_other_are_found():
    """The table itself is refused when a room imports one that does not stand above it."""
    table = Table({"a": ["b"], "b": ["a"]})
    modules = {"resqued.a": "import resqued.b", "resqued.b": "import resqued.a"}
    assert violations(table, modules, set()) == [
        "[imports] a = b, which does not stand above it",
    ]
