"""What a fork server hands to the duties process that it has just forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resqued.config import Config
from resqued.duties.call_record import CallRecord
from resqued.duties.definition import DutyDefinition

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks


@dataclass(frozen=True)
class DutiesBoot:
    """All that a new duties process gets. Signals are blocked until it has installed its
    handlers."""

    config: Config
    identity: str  # the arbiter's
    duties: tuple[DutyDefinition, ...]
    record: CallRecord
    hooks: Hooks
