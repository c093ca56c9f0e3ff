"""The config file: Python, executed anew on every start and reload. It is itself a plugin.

Settings are its lower-case names; hooks are its functions, which `plugins` finds. Modules and
functions that it imports are ignored, and so are names with an underscore.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from resqued.exits import ExitCode
from resqued.ownership import Untrusted, check_writers, user_name
from resqued.plugins.errors import describe

FILE_NAME: Final = "resqued.conf.py"
"""Used without being named if it is in the working directory."""

_MODULE_NAME: Final = "resqued_conf"


class BadFile(Exception):
    """The file cannot be used. The message names it, the line, and the remedy."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CONFIG) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class ConfigFile:
    """An executed file: its module, and where each name got its value."""

    path: str  # absolute
    module: ModuleType
    lines: dict[str, int] = field(default_factory=dict)  # of assignments at its top level
    passing: frozenset[str] = frozenset()  # variables of its loops and `with` statements

    @property
    def name(self) -> str:
        return Path(self.path).name

    def source(self, name: str) -> str:
        """`resqued.conf.py:3`."""
        line = self.lines.get(name)
        return f"{self.name}:{line}" if line else self.name

    def assigned(self) -> Iterator[tuple[str, Any]]:
        """The names that it assigns, without those with an underscore."""
        for name, value in vars(self.module).items():
            if name in self.lines and not name.startswith("_"):
                yield name, value

    def imported(self) -> Iterator[tuple[str, Any]]:
        """Values that it imports: settings if a setting has that name, else ignored."""
        for name, value in vars(self.module).items():
            if name not in self.lines and name not in self.passing and not is_code(value):
                yield name, value


def is_code(value: object) -> bool:
    """A module, class or function: what a file needs besides settings."""
    return isinstance(value, ModuleType) or callable(value)


def execute(path: str, trusted: Callable[[], None] = lambda: None) -> ConfigFile:
    """Run the file in a new module. Runs in the arbiter, in each fork server, under --check.

    trusted: called before the file is run, when it is known that it may be. The module replaces
    an earlier one in sys.modules only if all went well; no bytecode is written.
    Raises BadFile.
    """
    name = Path(path).name
    source = _read(path)
    trusted()
    try:
        text = importlib.util.decode_source(source)
        tree = ast.parse(text, path)
        code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        at = f"{name}:{error.lineno}" if error.lineno else name
        quoted = f"\n  {without_passwords(error.text.strip())}" if error.text else ""
        raise BadFile(f"{at}: {error.msg}{quoted}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise BadFile(f"{name}: it is not Python: {error}") from error
    module = ModuleType(_MODULE_NAME)
    module.__file__ = path
    before = sys.modules.get(_MODULE_NAME)
    sys.modules[_MODULE_NAME] = module  # dataclasses and pickle look their module up
    try:
        exec(code, vars(module))
    except BaseException as error:
        sys.modules.pop(_MODULE_NAME)
        if before is not None:
            sys.modules[_MODULE_NAME] = before
        if not isinstance(error, Exception | SystemExit):
            raise
        raise BadFile(f"{_where(error, path)}: {describe(error)}") from error
    bindings = list(_bindings(tree))
    lines = {bound: line for bound, line, lasting in bindings if lasting}
    passing = frozenset(bound for bound, _, lasting in bindings if not lasting)
    return ConfigFile(path, module, lines, passing)


def without_passwords(text: str) -> str:
    """Mask the passwords of URLs in lines of a file that could not be run."""
    return re.sub(r"(://[^\s:@/]*):.*@", r"\1:***@", text)


def _read(path: str) -> bytes:
    """The file's bytes. Raises BadFile, also if others could have written to it."""
    try:
        # not blocking: the open of a FIFO would wait for a writer
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(
                    f"{path}: it is not a file, and each reload and each generation reads it again"
                )
            check_writers(path, status, "run it")
            return file.read()
    except Untrusted as error:
        raise BadFile(str(error), ExitCode.NO_PERMISSION) from None
    except FileNotFoundError:
        raise BadFile(f"{path}: there is no such file") from None
    except PermissionError:
        raise BadFile(
            f"{path}: it may not be read by {user_name(os.geteuid())}", ExitCode.NO_PERMISSION
        ) from None
    except OSError as error:
        raise BadFile(f"{path}: it cannot be read: {error.strerror}") from error


def _where(error: BaseException, path: str) -> str:
    """`resqued.conf.py:3`: the last line of the file in the error's traceback."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    name = Path(path).name
    return f"{name}:{lines[-1]}" if lines else name


def _bindings(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Each name that is bound at top level, its line, and whether an assignment does it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        targets: list[ast.expr] = []
        lasting = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr | ast.For):
            targets = [node.target]
        elif isinstance(node, ast.With):
            targets = [item.optional_vars for item in node.items if item.optional_vars]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id, target.lineno, lasting
        yield from _bindings(node)
