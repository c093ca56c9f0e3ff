"""Reads the scoreboard of a running arbiter, and shows it."""
