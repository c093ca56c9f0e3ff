"""USR1 reopens the logs, for logrotate: move the files away, then `kill -USR1` the arbiter.

Without this plugin (`-p no:logs`) USR1 is only logged.
"""

from __future__ import annotations

from resqued import Arbiter, hookimpl


@hookimpl(trylast=True)
def signal_received(arbiter: Arbiter, signame: str) -> bool | None:
    if signame != "USR1":
        return None
    arbiter.reopen_logs()
    return True
