"""The dead worker, made once more: as far as RQ's code, and what its class overrides, need it."""

from __future__ import annotations

from typing import Any

from rq.worker import BaseWorker, Worker

from resqued.broker.connection import NO_ANSWER
from resqued.logs import logger
from resqued.worker.rq_worker import Fenced, Undertaker


def make_undertaker(
    theirs: type[BaseWorker], core: Any, queues: list[str], arguments: dict[str, Any]
) -> BaseWorker:
    """One of the dead worker's own class, so that what that overrides is called here too; of RQ's
    where theirs cannot be made. core: in the place of a `Core`. Raises redis errors."""
    for cls in (theirs, Worker):
        bases = (Undertaker, cls) if issubclass(cls, Fenced) else (Undertaker, Fenced, cls)
        made: Any = type("Undertaker", bases, {"__module__": cls.__module__})
        undertaker: BaseWorker = made.__new__(made)
        vars(undertaker)["_resqued"] = core
        try:
            made.__init__(undertaker, queues, **arguments)
        except Exception as error:
            if cls is Worker or isinstance(error, NO_ANSWER):
                raise
            name = f"{cls.__module__}.{cls.__qualname__}"
            logger.exception(f"recovering without {name!r}, which cannot be made")
            continue
        undertaker.death_penalty_class = theirs.death_penalty_class
        break
    return undertaker
