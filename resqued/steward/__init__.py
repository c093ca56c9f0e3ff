"""The steward: one process an arbiter that registers workers in RQ and does what RQ's workers do
periodically."""
