"""`resquedctl top`: the screen, the keys, and the clock. rich draws it (the extra `top`).

It reads the scoreboard itself, so it goes on when the arbiter's loop stands still; only events, and
what `enter` tells, need the control socket. Runs in a command of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from resqued.control.client import Connection, NotReached
from resqued.control.packets import ControlRequest
from resqued.ctl.look import event_text
from resqued.ctl.top_page import SORTS, QueueTrends, View, listed, screen
from resqued.printable import printable
from resqued.status.chosen import ChosenArbiter
from resqued.status.reader import ArbiterStatus, StatusReader
from resqued.status.text import Line, has_colour

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PERIOD: Final = 1.0
"""Seconds between two looks."""

AGAIN: Final = 3.0
"""Seconds between two tries to reach the control socket, which a re-exec closes for a while."""

COUNT: Final = 3
"""Seconds between two sums of the jobs of all workers."""

WEIGH: Final = 10.0
"""Seconds between two looks at the memory of workers."""

_STYLES: Final = {
    "": "",
    "bold": "bold",
    "dim": "dim",
    "good": "green",
    "odd": "yellow",
    "bad": "red",
    "heading": "bold underline",
    "chosen": "reverse",
}

_UP, _DOWN = ("\x1b[A", "\x1bOA", "k"), ("\x1b[B", "\x1bOB", "j")
_PAGE_UP, _PAGE_DOWN = ("\x1b[5~",), ("\x1b[6~", " ")
_ENTER: Final = ("\r", "\n")
_BACK: Final = ("q", "\x1b", "\x7f", *_ENTER)


def missing() -> str:
    """What to install for it; empty if all is there."""
    if find_spec("rich") is None:
        return (
            "top needs the package rich: pip install 'resqued[top]';"
            " without it there is `resquedctl status --watch`"
        )
    return ""


def run(arbiter: ChosenArbiter) -> str:
    """Show it until `q`, Control-C, or the arbiter's end; what is to be said then. Raises
    NoArbiter."""
    from rich.console import Console

    console = Console(highlight=False, no_color=not has_colour(sys.stdout), soft_wrap=True)
    with (
        StatusReader(arbiter.pid) as reader,
        Events(arbiter) as events,
        _keys_at_once(),
        console.screen() as shown,
    ):
        top = Top(reader, events, arbiter)
        while not top.is_over:
            width, height = os.get_terminal_size(sys.stdout.fileno())
            lines = top.lines(width, height, blocks=_has_blocks(console))
            shown.update(as_rich(lines))
            top.wait()
    return top.last_word


def _has_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def as_rich(lines: list[Line]) -> Text:
    """The lines as one text of rich."""
    from rich.text import Text

    text = Text(no_wrap=True, end="")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for span, colour in line:
            text.append(span, _STYLES[colour])
    return text


class Events:
    """The arbiter's events, as the control socket tells them; none without one."""

    def __init__(self, arbiter: ChosenArbiter) -> None:
        self.last: deque[str] = deque(maxlen=50)
        self._arbiter = arbiter
        self._connection: Connection | None = None
        self._connect()

    def _connect(self) -> None:
        self._tried = time.monotonic()
        if self._arbiter.control:
            with contextlib.suppress(NotReached):
                connection = Connection(self._arbiter.control, self._arbiter.owner)
                connection.begin(ControlRequest("events", {"follow": True}))
                self._connection = connection
                self.last.clear()  # it tells the last ones again

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def take(self) -> None:
        """Read what has come; never waits."""
        if self._connection is None and time.monotonic() - self._tried > AGAIN:
            self._connect()
        if self._connection is None:
            return
        try:
            for answer in self._connection.come():
                for event in answer.facts.get("events", []):
                    self.last.append(event_text(event)[11:])  # without the date
        except NotReached:  # a re-exec, or the end
            self._connection.close()
            self._connection = None


class Top:
    """What is shown, and what keys do."""

    def __init__(self, reader: StatusReader, events: Events, arbiter: ChosenArbiter) -> None:
        self._reader = reader
        self._events = events
        self._arbiter = arbiter
        self._trends = QueueTrends()
        self._view = View()
        self._status: ArbiterStatus = reader.read()
        self._weighed = time.monotonic()
        self._looked = 0.0
        self._height = 24
        self.is_over = False
        self.last_word = ""

    def lines(self, width: int, height: int, *, blocks: bool) -> list[Line]:
        """The screen as it is to be now."""
        self._height = height
        now = time.monotonic()
        if now - self._looked >= PERIOD:
            self._looked = now
            self._status = self._read(now)
            self._trends.note(self._status.queues)
            self._events.take()
            if self._status.process == "gone":
                self.is_over = True
                self.last_word = f"the arbiter, pid {self._arbiter.pid}, has ended"
        view, last = self._view, list(self._events.last)
        return screen(self._status, self._trends, view, last, width, height, blocks=blocks)

    def _read(self, now: float) -> ArbiterStatus:
        """As it is now; the memory as it was when that was last read, which costs more."""
        before = self._status
        if now - self._weighed >= WEIGH:
            self._weighed = now
            return self._reader.read()
        status = self._reader.read(memory=False, counts=int(now) % COUNT == 0)
        return replace(status, memory=before.memory, is_estimate=before.is_estimate)

    def wait(self) -> None:
        """Until the next look, or a key."""
        if self.is_over:
            return
        left = max(0.0, self._looked + PERIOD - time.monotonic())
        try:
            if select.select([sys.stdin], [], [], left)[0]:
                typed = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
                if not typed:  # the terminal is gone
                    self.is_over = True
                for key in _keys(typed):
                    self._press(key)
        except KeyboardInterrupt:
            self.is_over = True

    def _press(self, key: str) -> None:
        view = self._view
        if view.detail is not None:
            step = {_UP: -1, _DOWN: 1, _PAGE_UP: 4 - self._height, _PAGE_DOWN: self._height - 4}
            for keys, lines in step.items():
                if key in keys:
                    view.scrolled += lines
            if key in _BACK:
                view.detail, view.scrolled = None, 0
        elif key == "q":
            self.is_over = True
        elif key == "s":
            sorts = list(SORTS)
            view.sort = sorts[(sorts.index(view.sort) + 1) % len(sorts)]
        elif key == "i":
            view.shows_idle = not view.shows_idle
        elif key in _ENTER:
            if view.chosen is not None:
                view.detail = tell(self._arbiter, view.chosen)
        else:
            self._choose(key)

    def _choose(self, key: str) -> None:
        numbers = [line.number for line in listed(self._status, self._view)]
        if not numbers:
            return
        at = numbers.index(self._view.chosen) if self._view.chosen in numbers else 0
        step = {_UP: -1, _DOWN: 1, _PAGE_UP: -10, _PAGE_DOWN: 10}
        for keys, lines in step.items():
            if key in keys:
                at = max(0, min(at + lines, len(numbers) - 1))
        self._view.chosen = numbers[at]


def tell(arbiter: ChosenArbiter, number: int) -> list[str]:
    """What `why worker N` and `stacks N` say, line by line."""
    from resqued.ctl.main import COMMANDS, ctl

    found: list[str] = []
    for words in (("why", "worker", str(number)), ("stacks", str(number))):
        if words[0] not in COMMANDS:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                named = ["--control", arbiter.control] if arbiter.control else []
                ctl.main([*named, *words], prog_name="resquedctl", standalone_mode=False)
            except (Exception, SystemExit) as error:
                print(error, file=said)
        found += [printable(line) for line in said.getvalue().splitlines()]
        found.append("")
    return found


def _keys(typed: str) -> Iterator[str]:
    """The keys in what a terminal has sent: a sequence of ESC is one key."""
    while typed:
        length = 1
        if typed.startswith(("\x1b[", "\x1bO")) and len(typed) >= 3:
            length = 4 if typed[2].isdigit() and len(typed) >= 4 else 3
        yield typed[:length]
        typed = typed[length:]


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys come without a newline and are not shown. termios(3), non-canonical mode."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
