"""Applications of other job queues, each with a task that does nothing and `enqueue(count)`.

They run in environments of their own (`.venv-peers`) with this folder on the path, and are told by
the environment where their broker is (`BROKER`) and where results go (`RESULTS`): URLs of Redis.
"""
