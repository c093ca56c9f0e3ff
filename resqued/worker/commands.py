"""Commands for a worker (`rq.command`): heard by its listener, or passed on by the arbiter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resqued.scoreboard import Order
from resqued.worker.context import Context
from resqued.worker.job.cuts import Interrupted


class Commands:
    """Those for one worker. cut_for: `Runner.cut_for`."""

    def __init__(
        self, context: Context, cut_for: Callable[[dict[str, Any]], type[Interrupted] | None]
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._cut_for = cut_for

    def hear(self) -> type[Interrupted] | None:
        """Look what is asked of the worker; says whether the job in hand has to be cut.

        In the handler of COMMAND, or the loop.
        """
        if not self._slot.alone:
            return self._obey(*self._slot.writer.order)
        signals, listener = self._slot.signals, self._context.listener
        kind = None
        listener.read()
        while True:
            try:
                command = listener.commands.popleft()
            except IndexError:  # also when a handler interrupted this and took the last
                break
            if command.get("command") == "shutdown":
                signals.draining = signals.alert = True
            else:
                kind = self._cut_for(command) or kind
        if listener.pushed:
            signals.alert = True
        return kind

    def _obey(self, order: Order, execution_id: str) -> type[Interrupted] | None:
        """What the arbiter has passed on of a command, if it is for the job in hand."""
        if execution_id not in self._context.worker.executions:
            return None
        kind: type[Interrupted] | None = None
        if order is Order.STOP:
            command = {"command": "stop-execution", "execution_id": execution_id}
            kind = self._cut_for(command)
        elif order is Order.KILL:
            kind = self._cut_for({"command": "kill-horse"})
        return kind
