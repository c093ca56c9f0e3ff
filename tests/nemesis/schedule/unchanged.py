"""Periodic jobs that are the same at each load."""

from nemesis.schedule import periodic

periodic.register()
