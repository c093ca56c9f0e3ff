"""The public members of a class with their types and docstrings, read from its source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A field, a property, or a method.

    kind: its type; of a method its parameters. text: its docstring on one line, empty if it has
    none. result: of a method, the type that it returns.
    """

    name: str
    kind: str
    text: str
    is_method: bool = False
    result: str = ""

    @property
    def signature(self) -> str:
        """`scale(count: int)`, or the name of a field."""
        return f"{self.name}({self.kind})" if self.is_method else self.name


def members(cls: type) -> Iterator[Member]:
    """Those that a class itself defines, in the order of its source."""
    [node] = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    for each, following in zip(node.body, [*node.body[1:], None], strict=True):
        match each:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind) if name[0] != "_":
                yield Member(name, ast.unparse(kind), _text_of(following))
            case ast.FunctionDef(name=name) if name[0] != "_":
                is_property = any(ast.unparse(mark) == "property" for mark in each.decorator_list)
                text = " ".join((ast.get_docstring(each) or "").split())
                result = ast.unparse(each.returns) if each.returns else ""
                if is_property:
                    yield Member(name, result, text)
                else:
                    yield Member(name, _parameters(each.args), text, True, result)


def _text_of(node: ast.stmt | None) -> str:
    """What a docstring that follows a field says."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""


def _parameters(arguments: ast.arguments) -> str:
    arguments.args = [each for each in arguments.args if each.arg != "self"]
    return ast.unparse(arguments)
