"""A dead worker whose job is to be seen to: what is known, and what has been found so far."""

from __future__ import annotations

from typing import Any

from redis.client import Pipeline
from rq.job import Job

from resqued import linux
from resqued.broker.claims import REST
from resqued.broker.hand import HANDS
from resqued.broker.outcome_writer import OutcomeWriter
from resqued.broker.owner import Owner
from resqued.config import Config
from resqued.worker.boot import Death
from resqued.worker.classes import lookup
from resqued.worker.recovery.patience import BoundedRetry
from resqued.worker.recovery.undertaker import make_undertaker
from resqued.worker.recovery.verdict import Verdict


class Case:
    """In the place of a worker's core: the class that RQ sees is that of the dead one, so that what
    it overrides is called here too (`rq_worker.Undertaker`). Raises ConfigError.
    """

    def __init__(self, config: Config, death: Death, connection: Any) -> None:
        self.config = config
        self.death = death
        self.verdict = Verdict.NOTHING
        self.retry = BoundedRetry(config)
        queues = [name for name in death.queues if name != REST]
        arguments = lookup.worker_arguments(config, death.record.name, connection)
        self.worker: Any = make_undertaker(lookup.worker_class(config), self, queues, arguments)
        self.writer = OutcomeWriter(self.worker, self.retry, self._let_go)

    @property
    def runner(self) -> Case:
        """Whose writer RQ's code is led to."""
        return self

    @property
    def lives(self) -> bool:
        """The worker works on; only Redis, gone back in time, says that it holds what it has not
        any more. What it has taken since is its own."""
        owner = Owner.parse(self.death.owner)
        return owner.machine == linux.machine() and owner.life is linux.Life.ALIVE

    def _let_go(self, job: Job, pipeline: Pipeline) -> None:
        """In the transaction of an outcome: its hand goes."""
        if not self.lives:
            pipeline.hdel(HANDS, self.death.owner)
