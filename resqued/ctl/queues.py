"""`resquedctl queue`: pause and resume queues for the whole fleet, and list them."""

from __future__ import annotations

import difflib
import getpass
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from resqued import linux
from resqued.ctl.chosen_redis import URL, with_redis
from resqued.ctl.columns import columns
from resqued.printable import listed, printable
from resqued.shares import check_name

if TYPE_CHECKING:
    from resqued.broker.foreign_workers import ForeignWorker
    from resqued.broker.queue_states import QueueState

_MOST: Final = 10000
"""Queues that may be paused at once: all their names have to fit on the scoreboard."""


_Said = tuple[str, bool]
"""A line, and whether it is a hint: those go to standard error."""


class QueueName(click.ParamType):  # type: ignore[type-arg]
    """The name of a queue, as `--queue` takes it."""

    name = "name"

    def convert(self, value: Any, param: Any, context: Any) -> str:
        if value == "*":
            self.fail("'*' stands for no queue here: name each", param, context)
        try:
            return check_name(str(value))
        except ValueError as error:
            self.fail(str(error), param, context)


_NAMES: Final = click.argument(
    "names", metavar="NAME...", type=QueueName(), nargs=-1, required=True
)


@click.group("queue")
def queue_group() -> None:
    """Pause and resume queues, on all hosts; list them."""


@queue_group.command()
@_NAMES
@URL
@click.pass_context
def pause(context: click.Context, names: tuple[str, ...], url: str | None) -> None:
    """Have no worker take jobs of these queues, on any host.

    All arbiters of this Redis obey within a second. Jobs that run are finished. A pause has no end:
    it outlives restarts, until the queue is resumed. A burst takes a paused queue for empty.
    """
    _tell(with_redis(context, url, "resquedctl", lambda client: _pause(client, names)))


@queue_group.command()
@_NAMES
@URL
@click.pass_context
def resume(context: click.Context, names: tuple[str, ...], url: str | None) -> None:
    """End the pause of these queues."""
    _tell(with_redis(context, url, "resquedctl", lambda client: _resume(client, names)))


@queue_group.command("list")
@click.argument("names", metavar="[NAME]...", type=QueueName(), nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
@click.pass_context
def list_queues(
    context: click.Context, names: tuple[str, ...], as_json: bool, url: str | None
) -> None:
    """List these queues, or all: jobs waiting and started, workers, limit, pause."""
    states = with_redis(context, url, "resquedctl", lambda client: _read(client, names))
    if as_json:
        click.echo(json.dumps({"queues": [asdict(state) for state in states]}, indent=2))
    else:
        click.echo("\n".join(_table(states)))


def _tell(said: Sequence[_Said]) -> None:
    """Print it, when all is done: who reads it may leave early."""
    for line, is_hint in said:
        click.echo(line, err=is_hint)


def _pause(client: Any, names: Sequence[str]) -> list[_Said]:
    from resqued.broker.fleet import read_fleet
    from resqued.broker.foreign_workers import foreign_workers
    from resqued.broker.pauses import Pause, pause_queue, read_pauses

    known = read_pauses(client)
    if len({*known, *names}) > _MOST:
        raise click.UsageError(f"{len(known)} queues are paused; at most {_MOST} can be")
    fleet = read_fleet(client)
    obeying = [entry for entry in fleet.values() if not entry.is_silent]
    said: list[_Said] = []
    for name in names:
        if pause_queue(client, name, Pause(who(), time.time())):
            said.append((f"paused {printable(name)}: {_obeyed(len(obeying))}", False))
        else:
            text = f"{printable(name)} was paused already{since(known.get(name))}"
            said.append((text, False))
        said += _hint(client, name, fleet)
        said += [(each, True) for each in _not_obeying(foreign_workers(client, name, fleet))]
    return said


def _resume(client: Any, names: Sequence[str]) -> list[_Said]:
    from resqued.broker.fleet import read_fleet
    from resqued.broker.pauses import resume_queue

    fleet = read_fleet(client)
    said: list[_Said] = []
    for name in names:
        if resume_queue(client, name):
            said.append((f"resumed {printable(name)}", False))
        else:
            said.append((f"{printable(name)} was not paused", False))
            said += _hint(client, name, fleet)
    return said


def _read(client: Any, names: Sequence[str]) -> list[QueueState]:
    from resqued.broker.fleet import read_fleet
    from resqued.broker.queue_states import read_queues

    return read_queues(client, read_fleet(client).values(), names)


def _hint(client: Any, name: str, fleet: dict[str, Any]) -> list[_Said]:
    """For a name that nobody knows: it may be misspelt."""
    from resqued.broker.queue_states import read_queues

    known = [state.name for state in read_queues(client, fleet.values())]
    if any(state.workers or state.waiting for state in read_queues(client, fleet.values(), [name])):
        return []
    others = [each for each in known if each != name]
    if near := difflib.get_close_matches(name, others, 1):
        hint = f"; did you mean {printable(near[0])}?"
    else:
        hint = f"; there are {listed(others)}" if others else ""
    text = f"hint: in {printable(name)} nothing waits, and no worker serves it{hint}"
    return [(text, True)]


def _obeyed(count: int) -> str:
    if not count:
        return "no arbiter runs now; those that start will obey"
    return f"{count} arbiter{'s' * (count > 1)} obey{'s' * (count == 1)} within a second"


def _not_obeying(workers: Sequence[ForeignWorker]) -> list[str]:
    """Lines for the workers that go on."""
    named = {
        "RQ's own workers do not obey": [each for each in workers if not each.arbiter],
        "workers of an older resqued do not obey": [each for each in workers if each.arbiter],
    }
    return [
        f"{what}: {listed([f'{each.name} on {each.host}' for each in found])}"
        for what, found in named.items()
        if found
    ]


def who() -> str:
    """This user and host, for those who ask later."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        user = "?"
    return f"{user}@{linux.host_name()}"


def since(pause: Any) -> str:
    """` since 2026-11-30 02:10:00 by deploy@web1`."""
    if pause is None:
        return ""
    moment = time.localtime(pause.since) if pause.since else None
    since = f" since {time.strftime('%Y-%m-%d %H:%M:%S', moment)}" if moment else ""
    return since + (f" by {printable(pause.by)}" if pause.by else "")


def _table(states: Sequence[QueueState]) -> list[str]:
    rows = [["QUEUE", "WAITING", "STARTED", "WORKERS", "LIMIT", "PAUSED"]]
    for state in states:
        numbers = (state.waiting, state.started, state.workers)
        shown = ["?" if number is None else str(number) for number in numbers]
        limit = "-" if state.limit is None else str(state.limit)
        paused = f"paused{since(state.pause)}" if state.pause is not None else "-"
        rows.append([printable(state.name), *shown, limit, paused])
    return columns(rows, right=range(1, 5))
