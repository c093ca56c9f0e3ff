"""Warnings of plugins for a command that has no log: `--check`."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import loguru

if TYPE_CHECKING:
    from loguru import Message, Record


def collect(warnings: list[str]) -> None:
    """Append what plugins of this project log with loguru as warnings; show no line of theirs.

    Lines of the application and of other plugins go to standard error as before.
    """

    def is_ours(record: Record) -> bool:
        return (record["name"] or "").partition(".")[0] in ("resqued", "resqued_plugins")

    def keep(message: Message) -> None:
        warnings.append(message.record["message"])

    with contextlib.suppress(ValueError):  # a plugin has removed it
        loguru.logger.remove(0)  # loguru's first sink
    loguru.logger.add(sys.stderr, filter=lambda record: not is_ours(record))
    loguru.logger.add(keep, filter=is_ours, level="WARNING")
