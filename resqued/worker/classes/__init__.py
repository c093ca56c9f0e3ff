"""Worker, job and queue classes that a user may name: import them, check them, run them in a
slot."""
