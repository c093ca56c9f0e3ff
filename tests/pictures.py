"""The pictures in `.github/` of `resquedctl status`, `resquedctl top` and the page of `--http`.

`python tests/pictures.py` draws them anew, as a terminal shows a service at work.
"""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

import page_picture
from resqued.ctl.top import as_rich
from resqued.ctl.top_page import QueueTrends, View, screen
from resqued.facts import Facts
from resqued.status.page import page
from resqued.status.reader import ArbiterStatus, QueueLine, WorkerLine
from resqued.status.text import Line

FOLDER = Path(__file__).parent.parent / ".github"
_NO_FONTS = re.compile(r"@font-face \{\{.*?\}\}", re.DOTALL)  # they would come from another host

_CREDIT = "<!-- Generated with Rich https://www.textualize.io -->"

_IDLE = WorkerLine(
    *(1, "web1.1", 100, 3, ["critical", "high", "low"], "idle", "idle"),
    *(None, None, None, None, 3600.0, 1200, 0, None, None, None),
)
_JOBS = [
    (2, "myapp.tasks.resize", "b929a9ec-dede-44a9-b78b-2f9b7af54f80", "high", 4, 180),
    (7, "myapp.tasks.report", "88a96d98-d44f-45fc-a698-8e16f7cad9bc", "low", 2467, 3600),
    (12, "myapp.tasks.resize", "5a1e0c2e-0b1f-4f4e-9a53-0d9cf2a7c1de", "high", 1, 180),
    (19, "myapp.billing.charge", "0f3d7a91-6c1e-4f0e-8f1d-55f2b1a4c9e7", "critical", 2, 60),
]
_EVENTS = [
    "14:02:51.004  signal_received   HUP: reload",
    "14:02:51.950  reload_started    gen=3 reload: booting; gen=2 stays in service",
    "14:02:53.310  reload_done       gen=3 in service; workers of gen=2 finish and leave",
    "14:02:58.120  worker_died       WARNING worker=5 gen=3 pid=8131 ended: signal SIGKILL",
    "14:02:58.161  worker_ready      worker=5 gen=3 pid=8190 ready, queues=critical,high,low",
]


def sample() -> ArbiterStatus:
    """A service during a reload, with a queue that has a misspelt name."""
    now = time.monotonic()
    workers = [replace(_IDLE, number=number) for number in range(1, 33)]
    for number, function, job_id, queue, age, timeout in _JOBS:
        workers[number - 1] = replace(
            _IDLE,
            number=number,
            generation=2 if number == 7 else 3,
            state="busy",
            function=function,
            job_id=job_id,
            queue=queue,
            job_age=age + 0.5,
            timeout=timeout,
        )
    workers[31] = replace(workers[31], state="booting")
    queues = [
        QueueLine("critical", 0, None, 32, 1, 32, 1, 0, 2, 41.0, False, False),
        QueueLine("high", 6, 0.4, 20, 2, 20, 2, 0, 15, 388.0, False, False),
        QueueLine("low", 41, 192.0, 3, 1, 3, 1, 12, 0, 6.0, False, False),
        QueueLine("mials", 5, 1017.0, 0, 0, 0, 0, 0, 0, 0.0, False, True),
    ]
    summary = {
        "state": "running",
        "generation": 3,
        "ready": 31,
        "wished": 32,
        "started": time.time() - 5 * 3600 - 180,
        "version": "0.2.0",
        "last_reload": "generation 3: done",
        "last_reload_at": now - 12.5,
        "generations": {"2": "ready", "3": "ready"},
        "config": "/srv/app/resqued.conf.py",
    }
    facts = Facts(now, True, now - 9000, "", 0.0004, False, None, (), 0, 0)
    return ArbiterStatus(
        *(4711, "running", None, summary, workers, queues, facts, 48211, 17, 1_180_000_000, True)
    )


def drawn(lines: list[Line], width: int, title: str) -> str:
    """The lines as SVG, without anything from another host."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(as_rich(lines), no_wrap=True, overflow="crop")
    form = _NO_FONTS.sub("", CONSOLE_SVG_FORMAT).replace(_CREDIT, "")
    return console.export_svg(title=title, code_format=form, unique_id=title.replace(" ", "-"))


def main() -> None:
    """Write them."""
    status, trends = sample(), QueueTrends()
    trends.note([replace(each, waiting=(each.waiting or 0) - 3) for each in status.queues])
    trends.note(status.queues)
    pictures = {
        "status": (page(status, 80), 80),
        "top": (screen(status, trends, View(chosen=7), _EVENTS, 100, 30), 100),
    }
    for name, (lines, width) in pictures.items():
        svg = drawn(lines, width, f"resquedctl {name}")
        (FOLDER / f"{name}.svg").write_text(svg)
    page_picture.draw(FOLDER / "page.png")


if __name__ == "__main__":
    main()
