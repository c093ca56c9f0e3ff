"""`--list-hooks` and `--list-plugins`: the hooks and the plugins that implement them, text or JSON.

The text on a hook is its docstring. Lines have at most 79 columns, but paths are not broken.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import pluggy

import resqued
from resqued import hookspecs
from resqued.command.hook_examples import EXAMPLES
from resqued.plugins.candidates import Candidate, suggestion
from resqued.plugins.errors import place_of, short_path
from resqued.plugins.registry import BLOCKED, BROKEN, IDLE, Plugins
from resqued.plugins.specs import HOOKS
from resqued.plugins.validation import CHAINED, WRAPPED

WIDTH: Final = 79

_UNBROKEN: Final = {"break_long_words": False, "break_on_hyphens": False}
_BELOW: Final[dict[str, Any]] = {  # a hook's signature
    "initial_indent": " " * 6,
    "subsequent_indent": " " * 6,
    **_UNBROKEN,
}
_COLUMN: Final = 19
_BESIDE: Final[dict[str, Any]] = {  # a plugin's name
    "initial_indent": " " * _COLUMN,
    "subsequent_indent": " " * _COLUMN,
    **_UNBROKEN,
}

_LEGEND: Final = (
    "* the five core hooks. all: every plugin is called; first: until one answers; chain: each"
    " gets the last one's answer; wrap: around the job. used by: in call order."
)
_IN_FULL: Final = "One hook in full: resqued --list-hooks=after_fork"

_MARKS: Final = {BROKEN: "!", BLOCKED: "-", IDLE: "-"}
_MEANINGS: Final = {"-": "- not active", "!": "! could not be loaded"}
_HINT: Final = "call order per hook: resqued --list-hooks"


class NoSuchHook(Exception):
    """`--list-hooks=HOOK` names none. The message suggests one. A wrong command line: 64."""


def list_hooks(plugins: Plugins, hook: str | None = None, as_json: bool = False) -> str:
    """All hooks under their banners and who implements them in call order, or one in full.

    Raises NoSuchHook.
    """
    banners = _banners(plugins)
    names = [name for below in banners.values() for name in below]
    if hook and hook not in names:
        raise NoSuchHook(f"there is no hook '{hook}'.{suggestion(hook, names)}")
    if as_json:
        chosen = [hook] if hook else names
        return json.dumps([_hook_facts(plugins, name) for name in chosen], indent=2)
    if hook:
        return _one_hook(plugins, hook)
    loaded = len(plugins.loaded())
    lines = [f"{_versions()}: {_count(len(names), 'hook')}, {_count(loaded, 'plugin')}"]
    for banner, below in banners.items():
        lines += ["", banner]
        for name in below:
            lines += _brief(plugins, name)
    lines += ["", *textwrap.wrap(_LEGEND, WIDTH), _IN_FULL]
    return "\n".join(lines)


def _banners(plugins: Plugins) -> dict[str, tuple[str, ...]]:
    """The hooks under their headings: resqued's own, then those that plugins have declared."""
    of_plugins = {f"Of plugin '{name}'": names for name, names in plugins.declared.items()}
    return {**hookspecs.LIFE_CYCLE, **of_plugins}


def list_plugins(plugins: Plugins, as_json: bool = False) -> str:
    """Every plugin that was found: in call order, then the idle, blocked and broken ones."""
    if as_json:
        return json.dumps([_plugin_facts(info) for info in plugins.found], indent=2)
    loaded = len(plugins.loaded())
    lines = [f"{_versions(rq=True)}: {_count(loaded, 'plugin')}"]
    for info in plugins.found:
        lines += _plugin(info)
    seen = {_MARKS.get(info.status) for info in plugins.found}
    legend = [text for mark, text in _MEANINGS.items() if mark in seen]
    lines += ["", "; ".join([", ".join(legend), _HINT]) if legend else _HINT]
    return "\n".join(lines)


class HookFacts(NamedTuple):
    """The five facts of a hook's docstring, each on one line."""

    purpose: str
    runs: str
    arguments: str
    returns: str
    raises: str

    @property
    def process(self) -> str:
        """`arbiter`, `job's process`."""
        where = self.runs.removeprefix("Runs in ").removeprefix("the ")
        return re.split(r"[,.;:]| \(", where)[0]


def facts_of(hook: str) -> HookFacts:
    """Read a hook's docstring. Raises ValueError when the facts are not five, in their order."""
    spec = getattr(hookspecs, hook)
    first = next(iter(inspect.signature(spec).parameters))
    match = re.fullmatch(
        rf"(.+?)\n\n(Runs in .+?)\n({first}[:,].+?)\n(Return .+?)\n(If it raises: .+)",
        inspect.getdoc(spec) or "",
        re.DOTALL,
    )
    if match is None:
        raise ValueError(f"the docstring of {hook} does not say its five facts")
    return HookFacts(*(" ".join(fact.split()) for fact in match.groups()))


def _doc(plugins: Plugins, hook: str) -> str:
    """The docstring of a hook that a plugin has declared."""
    return inspect.getdoc(_caller(plugins, hook).spec.function) or ""


def _summary(plugins: Plugins, hook: str) -> tuple[str, str]:
    """What a hook is for, and its process and kind."""
    kind = kind_of(plugins, hook)
    if hook not in HOOKS:
        return " ".join(_doc(plugins, hook).partition("\n\n")[0].split()), kind
    facts = facts_of(hook)
    return facts.purpose, f"{facts.process}, {kind}"


def kind_of(plugins: Plugins, hook: str) -> str:
    """all, first, chain or wrap."""
    if hook == WRAPPED:
        return "wrap"
    if hook in CHAINED:
        return "chain"
    return "first" if _caller(plugins, hook).spec.opts["firstresult"] else "all"


def _brief(plugins: Plugins, hook: str) -> list[str]:
    star = "*" if hook in hookspecs.CORE else " "
    head = f"{star} {_signature(plugins, hook)}"
    purpose, tail = _summary(plugins, hook)
    lines = [f"{head}{tail:>{WIDTH - len(head)}}"]
    if len(head) + len(tail) >= WIDTH:
        lines = [head, f"{tail:>{WIDTH}}"]
    lines += textwrap.wrap(purpose, WIDTH, **_BELOW)
    users = [each.plugin_name for each in _called(plugins, hook)]
    if users:
        lines += textwrap.wrap(f"used by: {' > '.join(users)}", WIDTH, **_BELOW)
    return lines


def _one_hook(plugins: Plugins, hook: str) -> str:
    head = _signature(plugins, hook)
    star = "* " if hook in hookspecs.CORE else ""
    _, tail = _summary(plugins, hook)
    lines = [f"{star}{head}  [{tail}]", ""]
    if hook in HOOKS:
        for fact in facts_of(hook):
            lines += textwrap.wrap(fact, WIDTH, initial_indent="  ", subsequent_indent="      ")
    else:
        lines += [f"  {line}".rstrip() for line in _doc(plugins, hook).splitlines()]
    lines += ["", *_example(hook)]
    called = _called(plugins, hook)
    if not called:
        return "\n".join([*lines, "No plugin implements it."])
    width = max(len(each.plugin_name) for each in called)
    lines.append("Called in this order:")
    for number, each in enumerate(called, start=1):
        lines.append(f"  {number}. {each.plugin_name:{width}}  {_place(each)}")
    return "\n".join(lines)


def _example(hook: str) -> list[str]:
    """Its heading and lines; nothing for a hook that a plugin has added."""
    if hook not in EXAMPLES:
        return []
    mark = "@hookimpl(wrapper=True)" if hook == WRAPPED else "@hookimpl"
    lines = [f"  {line}" for line in EXAMPLES[hook].splitlines()]
    return [f"In a config file; in a plugin put {mark} before it:", *lines, ""]


def _plugin(info: Candidate) -> list[str]:
    where = _where(info)
    if info.status == BROKEN:
        where = f"{where}; not loaded:" if where else "not loaded:"
        below = info.error.splitlines()
    else:
        where = f"{where}; {info.error}" if info.error else where
        below = [", ".join(info.hooks)]
    start = f"{_MARKS.get(info.status, ' ')} {info.name}"
    texts = [line for text in (where, *below) for line in textwrap.wrap(text, WIDTH, **_BESIDE)]
    if len(start) < _COLUMN - 1:
        texts[0] = f"{start:{_COLUMN}}{texts[0].lstrip()}"
        return texts
    return [start, *texts]


def _where(info: Candidate) -> str:
    """`resqued-statsd 0.3.0 (-p statsd)`, `built in`, `./resqued.conf.py`."""
    if info.origin == "built in":
        return info.origin
    if info.distribution:
        return f"{info.distribution} {info.version} ({info.origin})"
    file = _dotted(short_path(info.file)) if info.file else ""
    if info.origin == "configuration file":
        return file
    return f"{file} ({info.origin})" if file else info.origin


def _hook_facts(plugins: Plugins, hook: str) -> dict[str, Any]:
    banner = next(name for name, hooks in _banners(plugins).items() if hook in hooks)
    facts = facts_of(hook) if hook in HOOKS else None
    return {
        "name": hook,
        "arguments": list(_caller(plugins, hook).spec.argnames),
        "banner": banner,
        "declared_by": next((n for n, hooks in plugins.declared.items() if hook in hooks), None),
        "process": facts.process if facts else None,
        "kind": kind_of(plugins, hook),
        "core": hook in hookspecs.CORE,
        "doc": facts._asdict() if facts else {"text": _doc(plugins, hook)},
        "example": EXAMPLES.get(hook),
        "used_by": [
            {"plugin": each.plugin_name, "place": place_of(each.function)}
            for each in _called(plugins, hook)
        ],
    }


def _plugin_facts(info: Candidate) -> dict[str, Any]:
    return {
        "name": info.name,
        "status": info.status,
        "origin": info.origin,
        "distribution": info.distribution,
        "version": info.version,
        "file": info.file,
        "hooks": list(info.hooks),
        "note": info.error or None,
    }


def _caller(plugins: Plugins, hook: str) -> Any:
    return getattr(plugins.manager.hook, hook)


def _called(plugins: Plugins, hook: str) -> list[pluggy.HookImpl]:
    return list(reversed(_caller(plugins, hook).get_hookimpls()))


def _signature(plugins: Plugins, hook: str) -> str:
    return f"{hook}({', '.join(_caller(plugins, hook).spec.argnames)})"


def _place(each: pluggy.HookImpl) -> str:
    """`./resqued.conf.py:14`."""
    file, line = place_of(each.function).rsplit(":", 1)
    return f"{_dotted(file)}:{line}"


def _dotted(short: str) -> str:
    """With `./` what is below the working directory, to tell it from what is on the path."""
    return f"./{short}" if not Path(short).is_absolute() and Path(short).exists() else short


def _versions(*, rq: bool = False) -> str:
    parts = [f"resqued {resqued.__version__}", f"pluggy {metadata.version('pluggy')}"]
    if rq:
        parts.append(f"rq {metadata.version('rq')}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
