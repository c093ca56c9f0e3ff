"""Faults at random, replayable, while jobs stream in; then: was any lost, or run twice?

A *plan* of faults and a *load* of jobs follow from a seed. A *nemesis* carries out the plan on a
*system*, resqued or stock `rq worker-pool`, while a *producer* enqueues the load. Then all is
healed, and the *check* compares what Redis holds with what the jobs wrote into the ledger.
"""
