"""The scoreboard: what every worker is doing, in memory that all processes of resqued share."""

from __future__ import annotations

from resqued.scoreboard.bell import Bell
from resqued.scoreboard.board import MAX_SLOTS, TRIAL, VERSION, RecordWriter, Scoreboard, Seen
from resqued.scoreboard.record import LONGEST_ID, Phase, Reason, Record
from resqued.scoreboard.words import Order, StewardStatus, Stop, StopCause

__all__ = [
    "LONGEST_ID",
    "MAX_SLOTS",
    "TRIAL",
    "VERSION",
    "Bell",
    "Order",
    "Phase",
    "Reason",
    "Record",
    "RecordWriter",
    "Scoreboard",
    "Seen",
    "StewardStatus",
    "Stop",
    "StopCause",
]
