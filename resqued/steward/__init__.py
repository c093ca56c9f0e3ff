"""The steward: one process an arbiter that registers workers in RQ and does RQ's periodic
duties."""
