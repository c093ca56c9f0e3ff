"""`python -m resqued`, the same as the command `resqued`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory: it comes last, and when the settings say so

from resqued.cli import main

sys.exit(main())
