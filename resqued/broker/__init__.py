"""All that talks to Redis, for worker and steward: connections, scripts, claims, outcomes."""
