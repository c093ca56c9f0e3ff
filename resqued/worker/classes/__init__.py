"""Classes that a user may name: import them, check them, run workers of them in a slot."""
