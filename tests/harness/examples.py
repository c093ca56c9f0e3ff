"""How many examples Hypothesis makes, and which.

Every run makes the same ones, so that one that fails on one machine fails on another, and a run
says something about the change and not about luck. With RESQUED_HYPOTHESIS=long there are a hundred
times as many, other ones in each run, and no timeout; a failure prints how to repeat it.
"""

from __future__ import annotations

import os

from hypothesis import settings

LONG = os.environ.get("RESQUED_HYPOTHESIS") == "long"


def load_profile() -> None:
    """To be called before any test is imported: settings in the tests inherit from the profile."""
    settings.register_profile("fixed", deadline=None, derandomize=True)
    settings.register_profile("long", deadline=None, max_examples=examples(100), print_blob=True)
    settings.load_profile("long" if LONG else "fixed")


def examples(number: int) -> int:
    """As many, or a hundred times as many in a long run."""
    return 100 * number if LONG else number
