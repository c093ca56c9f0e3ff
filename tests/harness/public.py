"""What the source of a plugin uses of resqued that is not for plugins."""

from __future__ import annotations

import ast

import resqued
import resqued.duties
import resqued.testing

PUBLIC = {
    module.__name__: set(module.__all__) for module in (resqued, resqued.duties, resqued.testing)
}


def uses_of_what_is_private(source: str) -> list[str]:
    """Lines that import other modules or names of resqued, look at a private attribute of
    something else than `self`, or signal a process."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] == "resqued":
                names = {alias.name for alias in node.names}
                bad = not names <= PUBLIC.get(module, set())
            case ast.Import():
                bad = any(
                    alias.name.partition(".")[0] == "resqued" and alias.name not in PUBLIC
                    for alias in node.names
                )
            case ast.Attribute(value=value, attr=attribute):
                own = isinstance(value, ast.Name) and value.id in ("self", "cls")
                private = attribute.startswith("_") and not attribute.endswith("__")
                bad = (private and not own) or ast.unparse(node) in ("os.kill", "signal.pidfd_send")
            case _:
                bad = False
        if bad:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found
