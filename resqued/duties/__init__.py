"""Duties: functions of plugins that are called periodically, in a process of their own.

`fenced` and `Superseded` are for those functions. Imports neither rq nor redis, so that a config
file, which the arbiter executes too, may import it.
"""

from __future__ import annotations

from resqued.duties.fence import Superseded, fenced

__all__ = ["Superseded", "fenced"]
