"""Isolation by choice: a child of the worker's for each job, while Redis stays with the worker.

`isolation` decides, in the worker: which child, how long, what its end means; `verdict` writes the
outcome, `cause` names a death, `departures` waits for those that are over. `spares` has the next
child forked ahead, by a `template`. `child` is the worker's view of one; `entry` and `inside` are
what runs in it, `rehearsal` the same before a fork; `frames` and `parcel` what goes to and fro.
"""
