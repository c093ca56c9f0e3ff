"""Publishes the arbiter's state: the scoreboard's header for `--status`, and the process title."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from resqued import __version__, titles
from resqued.config import Config
from resqued.core.state import Mode, State
from resqued.logs import redact
from resqued.plugins.hooks import silenced
from resqued.scoreboard import Scoreboard
from resqued.scoreboard.runs import compact
from resqued.shares import limits_of

REWRITE: Final = 1.0
"""Seconds after which the summary and the header are written again: job code can spoil them."""


class Publisher:
    """Writes what has changed, and everything periodically."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._shown: dict[str, Any] = {}
        self._shown_at = 0.0
        self._title: tuple[int, int, int, str] | None = None

    def publish(self, state: State, config: Config, control: str) -> None:
        """Once a turn. Runs in the arbiter. control: the path of its control socket, or empty."""
        ready = sum(worker.ready for worker in state.workers() if not worker.trial)
        generations = sorted(state.generations)
        summary = {
            "pid": os.getpid(),
            "state": str(state.mode),
            "generation": state.current,
            "booting": state.booting,
            "configured": state.policy.workers,
            "difference": state.difference,
            "wished": state.target,
            "ready": ready,
            "last_reload": redact(state.last_reload).splitlines()[0][:300],
            "last_reload_at": state.last_reload_at,
            "generations": {str(each): str(state.generations[each].stage) for each in generations},
            "stop_by": state.stop_by,
            "started": state.since,
            "version": __version__,
            "config": config.config,
            "silenced": silenced,
            "control": control,
            "boot_timeout": state.policy.boot_timeout,
            "name": config.name,
            "redis": _redis(config),
            "limits": limits_of(config.queues),
            "recoveries": len(state.recoveries),
            "steward": _steward(state),
            "backing_off": {  # failures in a row, and when the next worker is forked
                str(slot.number): (slot.failures, slot.not_before)
                for slot in state.slots.values()
                if slot.worker is None and slot.failures
            },
            "slots": compact(
                {
                    slot.number: slot.worker.queues
                    for slot in state.slots.values()
                    if slot.worker is not None
                }
            ),
        }
        now = time.monotonic()
        if summary != self._shown or now - self._shown_at >= REWRITE:
            self._shown, self._shown_at = summary, now
            self._scoreboard.mend_header()
            self._scoreboard.summary.write(summary)
        note = "" if state.mode is Mode.RUNNING else str(state.mode)
        if state.booting is not None:
            note = "reloading"
        title = (ready, state.target, state.current, note)
        if title != self._title:
            self._title = title
            titles.arbiter(*title)


def _redis(config: Config) -> dict[str, Any]:
    """For commands that read Redis themselves: fields of `ctl.redis_of.RedisSettings`. With the
    password: only this user and root may open the scoreboard, and no view shows it."""
    return {
        "url": config.redis,
        "connection_class": config.connection_class,
        "path": config.path,
        "prefix": os.environ.get("RQ_KEY_PREFIX", ""),
    }


def _steward(state: State) -> int | None:
    """The pid of the newest steward that has said hello."""
    ready = [steward for steward in state.stewards.values() if steward.ready]
    return max(ready, key=lambda steward: steward.serial).pid if ready else None
