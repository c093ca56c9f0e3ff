"""The arbiter that a command of `resquedctl` is for. Light, for the commands that only look."""

from __future__ import annotations

from typing import Final

import click

from resqued.exits import ExitCode
from resqued.status.chosen import ChosenArbiter, NoArbiter, choose

REFUSED: Final = 1
"""Exit status: the arbiter has refused, or the request was replaced by a newer one."""


def chosen(context: click.Context) -> ChosenArbiter:
    """The arbiter that the options name, or the only one. Exits if there is none."""
    try:
        return choose(**context.find_root().obj)
    except NoArbiter as error:
        click.echo(str(error), err=True)
        context.exit(error.exit_code)


def chosen_pid(context: click.Context) -> int:
    """Its pid. Exits if that cannot be known."""
    arbiter = chosen(context)
    if not arbiter.pid:
        text = f"{arbiter.control}: no arbiter of this user says that it listens there"
        click.echo(text, err=True)
        context.exit(ExitCode.NOT_RUNNING)
    return arbiter.pid
