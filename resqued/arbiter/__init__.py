"""The arbiter: the loop, its acts, and what hooks see of it. Decisions are in `resqued.core`."""
