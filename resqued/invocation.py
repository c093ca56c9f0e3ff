"""The command line of this process, for a re-exec and for fork servers. Runs in the arbiter.

A deployment changes a symbolic link and deletes the old release. What the command line names is
then the new release: its script, the interpreter in the script's first line, its packages. The
interpreter of this process is the old one, and may be deleted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

FORK_SERVER: Final = "--fork-server"
"""First word of a command line that starts a fork server; what follows is for it."""

_FIRST_LINES: Final = 4096  # bytes of a script; installers write a long path into its third line


@dataclass(frozen=True)
class Invocation:
    """A command line, in its three parts. Take it before anything changes `sys.argv`."""

    program: tuple[str, ...]  # what exec is given: a script, or an interpreter and its options
    arguments: tuple[str, ...]
    own: bool  # the program only calls `resqued.cli.main`, as far as can be seen
    directory: str  # by the name its user gave it; relative names are below it

    @classmethod
    def of_this_process(cls, directory: str) -> Self:
        """From `sys.orig_argv` and `sys.argv`."""
        original, arguments = [_interpreter(), *sys.orig_argv[1:]], sys.argv[1:]
        length = len(original) - len(arguments)
        own = length > 1 and original[length:] == arguments and _is_program(original[:length])
        if not own:
            return cls(tuple(original), (), False, directory)
        program = original[:length]
        if _is_script(program):
            program = program[-1:]
        return cls(tuple(program), tuple(arguments), True, directory)

    def again(self, environ: Mapping[str, str]) -> list[str]:
        """The whole command line for exec, with a first word that needs no PATH."""
        return [*self._findable(self.program, environ), *self.arguments]

    def fork_server(self, environ: Mapping[str, str], words: Sequence[str]) -> list[str]:
        """The command line of a fork server, which has the same interpreter, options and path.

        A program that does more than to call `resqued.cli.main` is not run again: then it is
        `python -m resqued` with the interpreter of this process.
        """
        if self.own:
            return [*self._findable(self.program, environ), FORK_SERVER, *words]
        return [sys.executable, *_options(), "-P", "-m", "resqued", FORK_SERVER, *words]

    def _findable(self, program: Sequence[str], environ: Mapping[str, str]) -> list[str]:
        first = program[0]
        if "/" in first:
            # not normalized: `..` after a symbolic link is the parent of its target
            return [os.path.join(self.directory, first), *program[1:]]  # noqa: PTH118
        return [shutil.which(first, path=environ.get("PATH")) or sys.executable, *program[1:]]


def working_directory() -> str:
    """The working directory by the name its user gave it. To be called once, at the start.

    If it is a symbolic link (`current`) that a deployment changes, the next generation starts in
    the new release; `os.getcwd()` would name the old one.
    """
    name = os.environ.get("PWD", "")
    try:
        if Path(name).is_absolute() and Path(name).samefile("."):
            return name
    except OSError:
        pass  # PWD is only a hint; a shell may have left a stale one
    return str(Path.cwd())


def _interpreter() -> str:
    """As the command line names it, if that leads to the one of this process: the first word of a
    command line may be anything."""
    named = sys.orig_argv[0]
    found = named if "/" in named else shutil.which(named)
    try:
        if found and Path(found).samefile(sys.executable):
            return named
    except OSError:
        pass
    return sys.executable


def _is_program(words: Sequence[str]) -> bool:
    """Whether these are the interpreter's words up to the name of what it runs."""
    if sys.argv[0] == words[-1]:
        return True
    return len(words) > 2 and words[-2] in ("-m", "-c")


def _is_script(program: Sequence[str]) -> bool:
    """Whether the kernel has put the interpreter before the script, as its first line says.

    `python script` names the interpreter itself, and is not one.
    """
    interpreter, *options, script = program
    try:
        with open(script, "rb") as file:  # noqa: PTH123
            head = file.read(_FIRST_LINES).decode(errors="replace")
        if not os.access(script, os.X_OK) or not head.startswith("#!"):
            return False
    except OSError:
        return False
    first, *rest = head[2:].splitlines()[:3] or [""]
    words = first.split(None, 1)
    if words[:1] == ["/bin/sh"]:  # the path was too long for the kernel, a shell runs the next line
        quoted = [word.strip("'\"") for word in " ".join(rest).split()]
        return interpreter in quoted and not options
    if words and re.fullmatch(r".*/env", words[0]):
        words = words[1].split() if len(words) > 1 else []
        words = [word for word in words if word != "-S"]
        return words == [interpreter, *options]
    return words == [interpreter, *([" ".join(options)] if options else [])]


def _options() -> list[str]:
    """The interpreter's options before what it runs: `-O`, `-X dev`, `-W error`, `-I`."""
    options: list[str] = []
    words = iter(sys.orig_argv[1:])
    for word in words:
        if not word.startswith("-") or word in ("-m", "-c", "-"):
            break
        options.append(word)
        if word in ("-X", "-W", "--check-hash-based-pycs"):
            options.append(next(words, ""))
    return options


def explain_exec_error(error: OSError, program: str) -> OSError:
    """The error of execve(2), with the cause where it is not clear: the script exists, but the
    interpreter that its first line names does not."""
    if error.errno == errno.ENOENT and Path(program).exists():
        return OSError(error.errno, "the interpreter that its first line names is missing", program)
    return error
