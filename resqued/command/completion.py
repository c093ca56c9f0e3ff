"""Shell completion for `resqued` and `resquedctl`: the scripts, and the words. By click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from click.shell_completion import FishComplete, ShellComplete, get_completion_class

_SPLIT: Final = 'string split ","'


class _Fish(FishComplete):
    """click's, whose script cuts a description at its first comma."""

    source_template = FishComplete.source_template.replace(
        _SPLIT, _SPLIT.replace("split", "split --max 1")
    )


def _made(shell: str) -> type[ShellComplete] | None:
    return _Fish if shell == "fish" else get_completion_class(shell)


def variable(program: str) -> str:
    """The environment variable by which the script of a shell asks a program for words."""
    return f"_{program.upper()}_COMPLETE"


def script(command: click.Command, program: str, shell: str) -> str:
    """What the shell has to evaluate. shell: one that `--completion` knows."""
    made = _made(shell)
    assert made is not None, shell
    return made(command, {}, program, variable(program)).source()


def answer(command: click.Command, program: str, environ: Mapping[str, str]) -> None:
    """Print the words that complete what is typed, as the script of a shell asks for them.

    environ: its variable says which shell, and those of click what is typed.
    """
    shell = environ.get(variable(program), "").partition("_")[0]
    made = _made(shell)
    if made is not None:
        click.echo(made(command, {}, program, variable(program)).complete())
