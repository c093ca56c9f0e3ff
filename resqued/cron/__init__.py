"""Periodic jobs: when they are due. Imports neither rq nor redis."""
