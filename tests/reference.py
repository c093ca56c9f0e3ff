"""The generated parts of the documentation: the options, the hooks, the exit codes.

`python tests/reference.py` writes them between their markers; `tests/test_documents.py` compares.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from resqued import hookspecs
from resqued.command.listings import facts_of, kind_of
from resqued.exits import ExitCode
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
        rows.append(f"| `{hook}({arguments})`{star} | {facts.process} | {kind} | {facts.purpose} |")
    return "\n".join(rows) + "\n"


def exit_codes() -> str:
    """A row for each exit code."""
    rows = [f"| {int(code)} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n"


PARTS = {
    "resqued/CONFIGURATION.md": {"help": options},
    "resqued/HOOKS.md": {"hooks": hooks},
    "resqued/OPERATIONS.md": {"exit codes": exit_codes},
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
