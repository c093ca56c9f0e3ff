"""What a probe is told: whether the arbiter lives, and whether jobs are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from resqued import Arbiter, WorkerState

STANDSTILL: Final = 30.0
"""Seconds without a turn of the arbiter's loop, after which it does not live."""


@dataclass(frozen=True)
class ProbeAnswer:
    """The answer to a probe."""

    ok: bool
    facts: dict[str, Any]


def live(arbiter: Arbiter, now: float) -> ProbeAnswer:
    """Whether the arbiter's loop turns. Redis has no part in it: a restart would not bring it back.

    now: seconds on the monotonic clock.
    """
    still = now - arbiter.loop.turned
    if still < STANDSTILL:
        return ProbeAnswer(True, {"live": True})
    return ProbeAnswer(
        False, {"live": False, "reason": f"the loop has not turned for {still:.0f} s"}
    )


def ready(arbiter: Arbiter, needed: int) -> ProbeAnswer:
    """Whether jobs are taken: so many workers, of all generations, are ready, and Redis answers."""
    count = sum(map(is_ready, arbiter.workers))
    redis = arbiter.redis
    facts = {"workers": count, "needed": needed}
    if arbiter.state != "running":
        reason = arbiter.state
    elif redis is not None and not redis.answers:
        reason = f"Redis does not answer: {redis.error}"
    elif count < needed:
        reason = f"{count} of {needed} workers are ready"
    elif redis is None:  # not measured yet, or the steward has said nothing for long
        reason = "it is not known whether Redis answers"
    else:
        return ProbeAnswer(True, {"ready": True, **facts})
    return ProbeAnswer(False, {"ready": False, "reason": reason, **facts})


def is_ready(worker: Any) -> bool:
    """Whether it has come up and has not left. One that is being replaced counts until its last
    job has ended, so that a reload makes no service unready."""
    leaving = worker.state is WorkerState.STOPPING and worker.job_id is not None
    return leaving or worker.state in (WorkerState.IDLE, WorkerState.BUSY)
