"""django.db: connections that are closed."""

from __future__ import annotations

from told import tell


class Connections:
    def close_all(self) -> None:
        tell("django: closed all")


connections = Connections()


def close_old_connections() -> None:
    tell("django: closed old ones")
