"""The verbs of plugins: what they may ask of the arbiter. Signals end in the same decisions."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verb(enum.StrEnum):
    """A verb, as `resqued.Arbiter` has it."""

    RELOAD = "reload"
    REEXEC = "reexec"
    SCALE = "scale"  # to so many workers
    DRAIN = "drain"
    STOP = "stop"
    REST = "rest"
    RESUME = "resume"
    RECYCLE = "recycle"  # the worker of this number
    REPLAN = "replan"
    LOOK_AGAIN = "look_again"
    REOPEN_LOGS = "reopen_logs"


@dataclass
class VerbRequest:
    """A verb that was accepted, until what it asks for has come about, or will not."""

    ticket: int
    verb: Verb
    number: int = 0  # the count of a scale, the number of a recycle
    serial: int = 0  # of the worker that a recycle replaces
    generation: int = 0  # of a reload; 0: not asked for yet
    planned: bool = False  # the plan of a replan is there
