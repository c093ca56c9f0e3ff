"""The demo's application: a shop with four kinds of work, from milliseconds to seconds."""

from __future__ import annotations

import time

CATALOGUE = {number: bytes(1000) * 20 for number in range(1000)}
"""20 MB that are loaded once and shared by all workers."""


def charge(order: int) -> str:
    """Urgent and short."""
    time.sleep(0.03)
    return f"order {order} paid"


def thumbnail(picture: int) -> int:
    """Many, each a tenth of a second."""
    time.sleep(0.1)
    return len(CATALOGUE[picture % len(CATALOGUE)])


def report(month: int) -> str:
    """Few and long; only some workers may be busy with them."""
    time.sleep(1)
    return f"report of month {month}"


def mail(address: str) -> None:
    """One address in twenty is wrong: the job fails, the worker goes on."""
    time.sleep(0.05)
    if "@" not in address:
        raise ValueError(f"not an address: {address}")
