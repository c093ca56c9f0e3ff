"""Put back the job that a dead worker had taken and not begun, without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution

from resqued import logs
from resqued.broker.claims import Claims
from resqued.broker.failures import fail_claimed, fail_execution
from resqued.broker.fencing import DEATHS, UNBEGUN
from resqued.broker.hand import GIVE_BACK, HANDS, execution_of
from resqued.broker.owner import QUEUE, RUNNING
from resqued.logs import LogEvent
from resqued.scoreboard import Order, Phase
from resqued.worker.recovery.case import RecoveryVerdict, how_it_left

if TYPE_CHECKING:
    from resqued.worker.recovery.case import Case

_UNBEGUN: Final = 10
"""How often a step may start a job for a worker that dies before it learns of it."""


class UnstartedJob:
    """The job of one dead worker. Methods raise redis errors, and are repeatable."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._worker = case.worker
        self._death = case.death

    def release_claim(self) -> None:
        """Put back what it had claimed in RQ's way."""
        record = self._death.record
        claims = Claims(
            self._worker.connection, self._death.owner, self._worker.job_class.key_for("")
        )
        event = self._case.event("put_back", f"{how_it_left(self._death)}, before it had begun")
        if self._case.lives:
            meant = record.phase is Phase.TAKEN and not record.overflow
            job_id = claims.put_back(record.job_id, event) if meant else None
        elif record.phase is Phase.TAKEN and not self._death.interrupted:
            job_id = self._release_deadly(claims)
        else:
            job_id = claims.put_back(event=event)
        if job_id:
            self._put_back(job_id)

    def _put_back(self, job_id: str) -> None:
        logs.info(f"put back job={job_id}: it had not begun", LogEvent.JOB_PUT_BACK, job=job_id)
        self._case.verdict = RecoveryVerdict.REQUEUED

    def _release_deadly(self, claims: Claims) -> str | None:
        """Put back a job that the worker may have died of reading; so it is not read here. Its id
        if it was put back; at the limit of deaths it is failed instead."""
        limit = self._case.config.max_deaths
        found = claims.put_back_after_death(
            limit, self._case.event("put_back", f"{how_it_left(self._death)}, before it had begun")
        )
        if found is None:
            return None
        taken, last = found
        if not last:
            return taken.job_id
        queue = self._death.record.queue
        reason = f"It has killed its worker {limit} times before it began, which is the limit."
        logs.error(
            f"failed job={taken.job_id} queue={queue}: {reason}",
            LogEvent.JOB_FAILED,
            job=taken.job_id,
            queue=queue,
        )
        event = self._case.event("failed", reason)
        fail_claimed(claims, taken, self._worker.job_class, queue, reason, event)
        self._case.verdict = RecoveryVerdict.FAILED
        return None

    def release_hand(self) -> None:
        """Put back what a step had started for it."""
        death, record, worker = self._death, self._death.record, self._worker
        if self._case.lives:
            return
        hand: Any = worker.connection.hget(HANDS, death.owner)
        in_hand = execution_of(hand) if isinstance(hand, bytes) else ""
        if Order(record.stopped).is_final and in_hand in (record.execution_id, record.token):
            return  # it gets the outcome of the order
        named = bool(in_hand) and in_hand == record.execution_id
        if named and record.phase is not Phase.TAKEN:
            return  # begun: it gets an outcome, which deletes the hand
        counter, limit = "", 0
        if named and not death.interrupted:  # it may have died of reading the job
            counter, limit = DEATHS, self._case.config.max_deaths
        elif not death.interrupted:
            counter, limit = UNBEGUN, _UNBEGUN
        event = self._case.event("put_back", f"{how_it_left(death)}, before it had begun")
        told = event.as_argument()
        give_back = worker.connection.register_script(GIVE_BACK)
        what, *rest = give_back(
            keys=[HANDS, RUNNING, worker.executions_key],
            args=[death.owner, in_hand, RQ_KEY_PREFIX, counter, limit, 1, told],
        )
        if what == b"nothing":
            return
        job_id, queue_key, execution_id = (raw.decode() for raw in rest)
        if what == b"back":
            self._put_back(job_id)
        elif what == b"limit":
            reason = f"It has killed its worker {limit} times before it began, which is the limit."
            if counter == UNBEGUN:
                reason = f"Its worker died {limit} times before it heard of it: that is the limit."
            queue = queue_key.removeprefix(QUEUE)
            logs.error(
                f"failed job={job_id} queue={queue}: {reason}",
                LogEvent.JOB_FAILED,
                job=job_id,
                queue=queue,
            )
            execution = Execution(execution_id, job_id, worker.connection, worker.name)
            event = self._case.event("failed", reason)
            fail_execution(worker.connection, worker.job_class, execution, queue, reason, event)
            worker.connection.hdel(HANDS, death.owner)
            self._case.verdict = RecoveryVerdict.FAILED
