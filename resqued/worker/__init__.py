"""The worker: takes jobs, runs them, writes their outcomes; and the recovery of dead workers."""
