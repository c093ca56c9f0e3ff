"""All that talks to Redis, for the worker and the steward: connections, scripts, claims,
outcomes."""
