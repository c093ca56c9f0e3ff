"""`resquedctl fleet`: all arbiters of a Redis, on all hosts, and what their workers serve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from resqued.ctl.chosen_redis import URL, with_redis
from resqued.ctl.columns import columns
from resqued.ctl.queues import since
from resqued.printable import printable

if TYPE_CHECKING:
    from resqued.broker.fleet import FleetEntry
    from resqued.broker.pauses import Pause


@click.command("fleet")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
@click.pass_context
def fleet_command(context: click.Context, as_json: bool, url: str | None) -> None:
    """Show all arbiters of this Redis, on all hosts.

    Each tells of itself every 5 s. One that was silent for 15 s is marked, and dropped after a day,
    or at once when it leaves in order. LIMIT: of jobs of the queue that run at once; where arbiters
    differ, all that they say.
    """
    fleet, pauses = with_redis(context, url, "resquedctl", _read)
    if as_json:
        click.echo(json.dumps(_plain(fleet, pauses), indent=2))
    else:
        click.echo("\n".join(_describe(list(fleet.values()), pauses)))


def _read(client: Any) -> tuple[dict[str, FleetEntry], dict[str, Pause]]:
    from resqued.broker.fleet import read_fleet
    from resqued.broker.pauses import read_pauses

    return read_fleet(client), read_pauses(client)


def _plain(fleet: Mapping[str, FleetEntry], pauses: Mapping[str, Pause]) -> dict[str, Any]:
    from resqued.broker.queue_states import serving

    return {
        "arbiters": [
            {"identity": identity, **asdict(entry), "is_silent": entry.is_silent}
            for identity, entry in fleet.items()
        ],
        "queues": dict(sorted(serving(fleet.values()).items())),
        "paused": {name: asdict(pause) for name, pause in pauses.items()},
    }


def _describe(fleet: Sequence[FleetEntry], pauses: Mapping[str, Pause]) -> list[str]:
    from resqued.broker.queue_states import serving

    if not fleet:
        return ["no arbiter has told anything to this Redis within a day"]
    heard = [entry for entry in fleet if not entry.is_silent]
    hosts, silent = len({entry.host for entry in heard}), len(fleet) - len(heard)
    head = (
        f"{len(heard)} arbiter{'s' * (len(heard) != 1)} on {hosts} host{'s' * (hosts != 1)},"
        f" {sum(entry.ready for entry in heard)}/{sum(entry.workers for entry in heard)} workers"
        f" ready, {sum(entry.busy for entry in heard)} busy"
    )
    lines = [head + (f"; {silent} silent" if silent else ""), "", *_arbiters(fleet)]
    served = serving(fleet)
    names = sorted({*served, *pauses})
    if names:
        lines += ["", *_queues(names, served, fleet, pauses)]
    return lines


def _arbiters(fleet: Sequence[FleetEntry]) -> list[str]:
    rows = [["HOST", "PID", "NAME", "VERSION", "GEN", "WORKERS", "BUSY", "STATE"]]
    for entry in fleet:
        state = f"silent for {entry.silent:.0f} s" if entry.is_silent else entry.state
        cells = (
            entry.host,
            str(entry.pid),
            entry.name or "-",
            entry.version,
            str(entry.generation),
            f"{entry.ready}/{entry.workers}",
            str(entry.busy),
            state or "-",
        )
        rows.append([printable(cell) for cell in cells])
    return columns(rows, right={1, 4, 5, 6})


def _queues(
    names: Sequence[str],
    served: Mapping[str, int],
    fleet: Sequence[FleetEntry],
    pauses: Mapping[str, Pause],
) -> list[str]:
    rows = [["QUEUE", "WORKERS", "LIMIT", "PAUSED"]]
    for name in names:
        concerned = [entry for entry in fleet if name in {**entry.queues, **entry.limits}]
        limit = "/".join(sorted({str(entry.limits.get(name, "none")) for entry in concerned}))
        limit = "-" if limit in ("", "none") else limit
        paused = f"paused{since(pauses[name])}" if name in pauses else "-"
        rows.append([printable(name), str(served.get(name, 0)), limit, paused])
    return columns(rows, right={1, 2})
