"""What speaks Redis, below the worker and the steward: scripts, and who holds which job."""
