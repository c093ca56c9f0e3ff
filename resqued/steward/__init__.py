"""The steward: one process an arbiter that keeps RQ's books for all its workers."""
