"""What of RQ and redis-py the sources use: imports, attributes and calls, found with `ast`.

The type of an expression is taken from imports, from annotations, and, where there is none, from
its name: `job`, `self._job` and `context.job` are jobs of RQ.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

import redis
from redis.client import Pipeline
from redis.connection import Connection, ConnectionPool
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.scheduler import RQScheduler
from rq.worker import BaseWorker, Worker

THEIRS = ("rq", "redis")

BY_NAME: dict[str, type] = {
    "job": Job,
    "job_class": Job,
    "queue": Queue,
    "worker": Worker,
    "execution": Execution,
    "scheduler": RQScheduler,
    "connection": redis.Redis,
    "pipeline": Pipeline,
    "pool": ConnectionPool,
    "connection_pool": ConnectionPool,
    "link": Connection,
    "parent": Worker,  # `parent: Any = super()`
}
"""The types of names without an annotation; a leading underscore does not count."""

OWN = ("runner.connection", "_boot.link", "config.queues")
"""Ends of expressions that would be taken for theirs by their names, and are resqued's."""

_OTHER = object()  # a value that is known not to be theirs


@dataclass(frozen=True)
class Use:
    """One use of a name of theirs, in a line of a module."""

    where: str
    owner: Any  # the module or class that has the name
    name: str  # "" for a call of the owner itself
    call: ast.Call | None = None  # if it is called there
    bound: bool = True  # whether the call leaves out `self`

    def __str__(self) -> str:
        return f"{self.where}: {full_name(self.owner)}.{self.name}".rstrip(".")


def full_name(thing: Any) -> str:
    """`rq.job.Job`, `rq.utils.now`, `redis`."""
    if inspect.ismodule(thing):
        return thing.__name__
    return f"{thing.__module__}.{thing.__qualname__}"


def is_theirs(thing: Any) -> bool:
    """Whether a class or module is one of RQ's or redis-py's."""
    name = thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", None)
    return isinstance(name, str) and name.partition(".")[0] in THEIRS


def their_class(cls: type) -> type | None:
    """What a class of ours is derived from. Where that is `BaseWorker`, `Worker` is meant: the
    mix-ins stand before it."""
    found = next((each for each in cls.__mro__ if is_theirs(each)), None)
    return Worker if found is BaseWorker else found


@functools.cache
def _class_definitions(module: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}


@functools.cache
def instance_attributes(cls: type) -> frozenset[str]:
    """What the methods of a class, and of those it is derived from, set on `self`."""
    found: set[str] = set()
    for each in filter(is_theirs, cls.__mro__):
        found |= set(getattr(each, "__annotations__", ()))
        found |= _own_attributes(each)
    return frozenset(found)


@functools.cache
def _own_attributes(cls: type) -> set[str]:
    definition = _class_definitions(cls.__module__).get(cls.__name__)
    return _set_on_self(definition) if definition else set()


def _set_on_self(node: ast.ClassDef) -> set[str]:
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


class Finder(ast.NodeVisitor):
    """Collects the uses in one module's source.

    by_name: whether `BY_NAME` holds in it.
    """

    def __init__(self, module: str, source: str, by_name: bool = True) -> None:
        self.module = module
        self.uses: list[Use] = []
        self.unknown: list[Use] = []
        """Private names of values whose type is not known."""
        self._by_name = BY_NAME if by_name else {}
        self._globals: dict[str, Any] = {}
        self._scopes: list[dict[str, Any]] = []
        self._fields: list[dict[str, Any]] = []  # of the classes around, innermost last
        self._classes: list[type] = []
        self._own: list[set[str]] = []  # what the classes around define themselves
        self._calls: dict[int, ast.Call] = {}
        self._optional: set[str] = set()
        self._made = importlib.import_module(module)
        tree = ast.parse(source)
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Name("hasattr" | "getattr"), [_, ast.Constant(str(name)), *_]):
                    self._optional.add(name)
        self.visit(tree)

    def _use(self, node: ast.AST, owner: Any, name: str, bound: bool = True) -> None:
        if name not in self._optional:
            where = f"{self.module}, line {node.lineno}"
            self.uses.append(Use(where, owner, name, self._calls.get(id(node)), bound))

    # Names.

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] in THEIRS:
                importlib.import_module(alias.name)
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self._globals[alias.asname or name] = sys.modules[name]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            local = alias.asname or alias.name
            if (node.module or "").partition(".")[0] in THEIRS:
                owner = importlib.import_module(node.module)
                self._use(node, owner, alias.name)
                self._globals[local] = getattr(owner, alias.name, _OTHER)
            else:
                self._globals.setdefault(local, _OTHER)

    def visit_Try(self, node: ast.Try) -> None:
        """Imports that may fail are no uses."""
        before = len(self.uses)
        may_fail = any(
            isinstance(each.type, ast.Name) and each.type.id == "ImportError"
            for each in node.handlers
        )
        try:
            self.generic_visit(node)
        except ImportError:
            if not may_fail:
                raise
        if may_fail:
            del self.uses[before:]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        fields: dict[str, Any] = {}
        for each in ast.walk(node):
            match each:
                case ast.AnnAssign(target=ast.Name(name) | ast.Attribute(ast.Name("self"), name)):
                    fields[name] = self._annotated(each.annotation)
                case ast.FunctionDef(name="__init__"):
                    types = self._parameters(each)
                    for line in ast.walk(each):
                        match line:
                            case ast.Assign(
                                [ast.Attribute(ast.Name("self"), name)], ast.Name(value)
                            ) if value in types:
                                fields.setdefault(name, types[value])
                            case ast.Assign(
                                [ast.Attribute(ast.Name("self"), name)],
                                ast.Call(ast.Name(value)),
                            ) if self._globals.get(value) is not None or value in vars(self._made):
                                made = self._globals.get(value, _OTHER)
                                fields.setdefault(name, made if inspect.isclass(made) else _OTHER)
        self._fields.append(fields)
        made = getattr(self._made, node.name, object)
        self._classes.append(made if inspect.isclass(made) else object)
        self._own.append(_set_on_self(node) | set(fields) | set(vars(self._classes[-1])))
        self.generic_visit(node)
        self._own.pop()
        self._classes.pop()
        self._fields.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for each in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if each is not None:
                self.visit(each)
        self._scopes.append(self._parameters(node))
        for each in node.body:
            self.visit(each)
        self._scopes.pop()

    def visit_comprehension(self, node: ast.comprehension) -> None:
        if isinstance(node.target, ast.Name) and ast.unparse(node.iter).endswith(OWN):
            self._scopes[-1][node.target.id] = _OTHER
        self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> None:
        for each in node.generators:  # they say what the names before them stand for
            self.visit(each)
        self.visit(node.elt)

    visit_ListComp = visit_SetComp = visit_GeneratorExp

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._scopes and isinstance(node.target, ast.Name):
            self._scopes[-1][node.target.id] = self._annotated(node.annotation)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        match node:
            case ast.Assign([ast.Name(name)], ast.Call(func=made)) if self._scopes:
                if inspect.isclass(cls := self._type(made)) and not isinstance(made, ast.Attribute):
                    self._scopes[-1][name] = cls

    def visit_Call(self, node: ast.Call) -> None:
        self._calls[id(node.func)] = node
        match node.func:
            case ast.Name(name) if is_theirs(self._globals.get(name)):
                self._use(node.func, self._globals[name], "")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self._type(node.value)
        value = node.value
        if self._own and isinstance(value, ast.Name) and value.id == "self":
            inherited = their_class(self._classes[-1])
            if node.attr in self._own[-1] and not hasattr(inherited, node.attr):
                return
        if owner is not None and owner is not _OTHER and is_theirs(owner):
            named = isinstance(value, ast.Name) and self._globals.get(value.id) is owner
            self._use(node, owner, node.attr, bound=not named)
        elif owner is None and node.attr.startswith("_") and not node.attr.startswith("__"):
            where = f"{self.module}, line {node.lineno}: {ast.unparse(node)}"
            self.unknown.append(Use(where, None, node.attr))
        self.generic_visit(node)

    # Types.

    def _parameters(self, node: ast.FunctionDef) -> dict[str, Any]:
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return {each.arg: self._annotated(each.annotation) for each in every if each.annotation}

    def _annotated(self, node: ast.expr) -> Any:
        """The class that an annotation names; None for `Any`, which leaves it to the name."""
        match node:
            case ast.Constant(str(text)):
                return self._annotated(ast.parse(text, mode="eval").body)
            case ast.BinOp(left, ast.BitOr(), ast.Constant(None)):
                return self._annotated(left)
            case ast.Subscript(ast.Name("type"), cls):
                return self._annotated(cls)
            case ast.Name("Any"):
                return None
        found = self._type(node)
        return found if inspect.isclass(found) else _OTHER

    def _guess(self, node: ast.Name | ast.Attribute) -> Any:
        name = node.id if isinstance(node, ast.Name) else node.attr
        found = self._by_name.get(name.lstrip("_"))
        return _OTHER if found is not None and ast.unparse(node).endswith(OWN) else found

    def _type(self, node: ast.expr) -> Any:
        """The class of a value, or the class or module that it is; None if it is not known."""
        match node:
            case ast.Name("self" | "cls") | ast.Call(func=ast.Name("super")) if self._classes:
                return their_class(self._classes[-1]) or _OTHER
            case ast.Name(name):
                for space in (*reversed(self._scopes), self._globals):
                    if name in space:
                        return self._guess(node) if space[name] is None else space[name]
                return self._guess(node)
            case ast.Call(func=ast.Name() as func):
                found = self._type(func)
                return found if inspect.isclass(found) else None
            case ast.Attribute(ast.Name("self"), name) if self._fields:
                found = self._fields[-1].get(name)
                return self._guess(node) if found is None else found
            case ast.Attribute(value, name):
                owner = self._type(value)
                if inspect.ismodule(owner):
                    return getattr(owner, name, _OTHER)
                return self._guess(node)
        return None
