"""Periodic jobs of which each load has another definition, as after a deploy."""

import time

from nemesis.schedule import periodic

periodic.register(meta={"loaded": time.time()})
