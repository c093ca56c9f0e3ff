"""Enqueues for one of the applications: how many is read line by line, and answered."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    app = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        app.enqueue(int(line))
        print("enqueued", flush=True)
