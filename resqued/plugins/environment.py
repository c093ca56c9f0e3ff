"""Keeps the environment variables, for when a hook clears them all.

Hooks may change the environment: what they set is for the fork servers and their jobs. Without any
variable neither has a path of modules. Runs in the arbiter and in fork servers.
"""

from __future__ import annotations

import os


class KeptEnvironment:
    """A copy of the environment as it was when `keep` was last called."""

    def __init__(self) -> None:
        self._kept = os.environ.copy()

    def keep(self) -> None:
        """Take what hooks have changed into the copy. Some ten microseconds."""
        if os.environ:
            self._kept = os.environ.copy()

    def restore(self) -> list[str]:
        """Put it back if there is no variable left; what was undone, for the log."""
        if os.environ:
            return []
        os.environ.update(self._kept)
        return ["cleared the environment"]
