"""The generated parts of the documentation: options, hooks, what plugins get, exit codes.

`python tests/reference.py` writes them between their markers; `tests/test_documents.py` compares.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import resqued
from harness.documented import members
from resqued import hookspecs
from resqued.command.hook_examples import EXAMPLES
from resqued.command.listings import facts_of, kind_of
from resqued.config import SETTINGS, Config
from resqued.exits import ExitCode
from resqued.log_events import EVENTS, FIELDS
from resqued.plugins.registry import load_plugins

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).parent / "resqued"
_PART = r"(<!-- generated: {} -->\n).*?(<!-- end -->)"


def options() -> str:
    """The page of `resqued --help`, in a directory without a config file."""
    page = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, cwd="/", check=True)
    return f"```\n{page.stdout.strip()}\n```\n"


def hooks() -> str:
    """A row for each hookspec, in the order of the life cycle."""
    plugins = load_plugins([], autoload=False)
    rows = ["| hook | runs in | kind | what for |", "|---|---|---|---|"]
    for hook in (name for names in hookspecs.LIFE_CYCLE.values() for name in names):
        facts = facts_of(hook)
        arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
        star = " *" if hook in hookspecs.CORE else ""
        kind = kind_of(plugins, hook)
        shown = f"[`{hook}({arguments})`](../plugins/README.md#{hook}){star}"
        rows.append(f"| {shown} | {facts.process} | {kind} | {facts.purpose} |")
    return "\n".join(rows) + "\n"


def hooks_in_full() -> str:
    """A section for each hookspec: its signature, kind and five facts, and its example."""
    plugins = load_plugins([], autoload=False)
    lines = []
    for banner, names in hookspecs.LIFE_CYCLE.items():
        lines += [f"### {banner}", ""]
        for hook in names:
            spec = getattr(hookspecs, hook)
            facts = facts_of(hook)
            arguments = ", ".join(
                f"{each.name}: {each.annotation}"
                for each in inspect.signature(spec).parameters.values()
            )
            returns = "Any" if hook == "perform_job" else inspect.signature(spec).return_annotation
            kind = kind_of(plugins, hook)
            lines += [f"#### {hook}", "", f"`{hook}({arguments}) -> {returns}` ({kind})", ""]
            lines += [f"{facts.purpose}\n", f"* {facts.runs}", f"* {facts.arguments}"]
            lines += [f"* {facts.returns}", f"* {facts.raises}", ""]
            lines += ["```python", EXAMPLES[hook].rstrip(), "```", ""]
    return "\n".join(lines)


def examples() -> str:
    """A row for each example plugin, with what its docstring says first."""
    rows = ["| plugin | |", "|---|---|"]
    for path in sorted((ROOT / "examples" / "plugins").glob("*.py")):
        told = ast.get_docstring(ast.parse(path.read_text())) or ""
        name = f"[{path.stem}](../examples/plugins/{path.name})"
        rows.append(f"| {name} | {' '.join(told.split(chr(10) * 2)[0].split())} |")
    return "\n".join(rows) + "\n"


def fields() -> str:
    """A table for each class of which hooks are given an object."""
    lines = []
    for title, name in GIVEN.items():
        lines += [f"### {title}", ""]
        cls = getattr(resqued, name)
        found = list(members(cls))
        facts = [each for each in found if not each.is_method]
        if facts:
            lines += ["| field | type | |", "|---|---|---|"]
            lines += [f"| `{each.name}` | {_cell(each.kind)} | {each.text} |" for each in facts]
            lines.append("")
        methods = [each for each in found if each.is_method]
        if methods:
            lines += ["| method | returns | |", "|---|---|---|"]
            for each in methods:
                assert each.text, f"{name}.{each.name} has no docstring"
                lines.append(f"| {_cell(each.signature)} | `{each.result}` | {each.text} |")
            lines.append("")
        for each in facts:
            assert each.text, f"{name}.{each.name} has no docstring"
    return "\n".join(lines)


def settings() -> str:
    """A row for each setting as an attribute of `config`, and its methods."""
    kinds = {each.name: each.kind for each in members(Config) if not each.is_method}
    lines = ["| field | type | |", "|---|---|---|"]
    for name, setting in SETTINGS.items():
        unit = _UNITS.get(setting.kind.metavar, "")
        kind = _cell(kinds[name]) + (f", {unit}" if unit else "")
        lines.append(f"| `{name}` | {kind} | {setting.help} |")
    lines += ["", "| method | returns | |", "|---|---|---|"]
    for each in members(Config):
        if each.is_method and each.name in PLUGIN_METHODS:
            lines.append(f"| {_cell(each.signature)} | `{each.result}` | {each.text} |")
    return "\n".join(lines) + "\n"


def _cell(code: str) -> str:
    """Code in a cell of a table, where a bar would end the cell."""
    return "`" + code.replace("|", "\\|") + "`"


def exit_codes() -> str:
    """A row for each exit code."""
    rows = [f"| {int(code)} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n"


def log_events() -> str:
    """A row for each event of the log, and one for each field."""
    rows = ["| event | | fields |", "|---|---|---|"]
    for event, meaning in EVENTS.items():
        named = ", ".join(f"`{name}`" for name in meaning.fields)
        rows.append(f"| `{event}` | {meaning.text} | {named} |")
    rows += ["", "| field | |", "|---|---|"]
    rows += [f"| `{name}` | {text} |" for name, text in FIELDS.items()]
    return "\n".join(rows) + "\n"


GIVEN = {
    "arbiter": "Arbiter",
    "request": "Request",
    "worker": "Worker",
    "exit": "Exit",
    "outcome": "Outcome",
    "generation": "Generation",
    "arbiter.queues": "QueueFacts",
    "arbiter.counts": "QueueCounts",
    "arbiter.redis": "RedisFacts",
    "arbiter.schedule": "ScheduleFacts",
    "arbiter.schedule.cron": "CronFacts",
    "arbiter.loop": "LoopFacts",
    "options": "Options",
    "duties": "Duties",
    "duty": "Duty",
}
"""What hooks are given, by the name of the argument, and its class in `resqued`."""

PLUGIN_METHODS = ("has_plugin", "state_dir")
"""Methods of `Config` that are for plugins."""

_UNITS = {"SECONDS": "seconds", "SIZE": "bytes"}

PARTS = {
    "plugins/README.md": {
        "examples": examples,
        "fields": fields,
        "settings": settings,
        "hooks": hooks_in_full,
    },
    "resqued/CONFIGURATION.md": {"help": options},
    "resqued/HOOKS.md": {"hooks": hooks},
    "resqued/OPERATIONS.md": {"exit codes": exit_codes, "log events": log_events},
}


def render(path: str) -> str:
    """A document as it has to be."""
    text = (ROOT / path).read_text()
    for name, part in PARTS[path].items():
        made = part()
        pattern = re.compile(_PART.format(name), re.DOTALL)
        text, count = pattern.subn(lambda match, made=made: match[1] + made + match[2], text)
        assert count == 1, f"{path} has {count} parts '{name}'"
    return text


if __name__ == "__main__":
    for path in PARTS:
        (ROOT / path).write_text(render(path))
