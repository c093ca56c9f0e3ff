"""Isolation `fork`: the worker forks a child for each job, and keeps the use of Redis to itself.

In the worker: `isolation` directs the children, `child` represents one, `child_outcomes` writes the
outcome, `death_cause` names the cause of a death, `finished_children` collects children whose job
has ended, `spares` has the next child forked ahead by a `template`. In the child: `entry` and
`child_main`, and before its fork `warm_up`. Between them: `frames` and `parcel`.
"""
