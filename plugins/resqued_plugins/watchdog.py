"""The watchdog: what happens to a worker whose job is past its deadline.

First the stacks of all its threads go into the log: faulthandler writes them from within the
stuck process, so they show also where it hangs in C code. A second later its process group is
killed, its job is recovered and its slot refilled.

It answers last: any plugin that implements `worker_stuck` decides before it.
"""

from __future__ import annotations

from resqued import Arbiter, Dump, Kill, Verdict, Worker, hookimpl


@hookimpl(trylast=True)
def worker_stuck(arbiter: Arbiter, worker: Worker, overdue: float, attempt: int) -> Verdict:
    return Dump if attempt == 0 else Kill
