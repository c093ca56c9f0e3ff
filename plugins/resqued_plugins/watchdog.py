"""The watchdog: what happens to a worker whose job is past its deadline.

First faulthandler, inside the stuck process, writes the stacks of all its threads to the log, so
that they also show where it hangs in C code. A second later its process group is killed; its job
is recovered, and another worker takes its slot.

It answers last: any plugin that implements `worker_stuck` decides before it.
"""

from __future__ import annotations

from resqued import Arbiter, Dump, Kill, Verdict, Worker, hookimpl


@hookimpl(trylast=True)
def worker_stuck(arbiter: Arbiter, worker: Worker, overdue: float, attempt: int) -> Verdict:
    return Dump if attempt == 0 else Kill
