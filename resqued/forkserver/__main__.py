"""`python -m resqued.forkserver`, as `resqued.arbiter.spawn` starts it."""

from __future__ import annotations

import sys

from resqued.forkserver.server import main

main(sys.argv[1:])
