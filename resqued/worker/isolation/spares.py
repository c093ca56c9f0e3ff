"""Fork the child for the next job while the current one runs, by a template where possible."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resqued import logs
from resqued.logs import LogEvent
from resqued.worker.isolation.child import HasDescriptors, JobChild
from resqued.worker.isolation.template import Template

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.isolation.entry import IsolatedRunner

_AGE: Final = 10.0
"""Seconds after which a template is replaced, since the worker may have changed."""


class Spares:
    """The spare child of one worker; at most one. Used in the worker. pure: no job runs in the
    worker itself, so that a template may fork all children. kin: objects with descriptors that
    children must not keep. fork: forks a waiting child of the worker itself."""

    def __init__(
        self,
        context: Context,
        runner: IsolatedRunner,
        *,
        pure: bool,
        kin: Callable[[], list[HasDescriptors]],
        fork: Callable[[], JobChild],
    ) -> None:
        self._context, self._runner = context, runner
        self._pure = pure and _has_pidfds()
        self._kin, self._fork = kin, fork
        self._template: Template | None = None
        self._old: list[Template] = []
        self._until = 0.0
        self.child: JobChild | None = None

    @property
    def kin(self) -> list[HasDescriptors]:
        found = [self.child, self._template, *self._old]
        return [each for each in found if each is not None]

    def make(self) -> None:
        """Fork a spare child, if there is none."""
        if self.child is not None:
            return
        with contextlib.suppress(OSError):
            template = self._current() if self._pure else None
            self.child = self._fork() if template is None else template.order()
        self._end_old()

    def take(self, parcel: Callable[[], bytes | None]) -> JobChild | None:
        """The child, once it has the parcel; None if there is none, or it cannot get it."""
        child, self.child = self.child, None
        if child is None:
            return None
        if child.template is not None and not child.template.is_born(child, at_once=True):
            if not child.template.broken and not child.pid:
                self.child = child  # for the next job: the template is not ready yet
                return None
            logs.warning(
                "the template of the worker's children does not answer; forking another",
                LogEvent.WORKER_NOTICE,
            )
            child.close()
            self._retire()
            return None
        raw = parcel()
        if raw is None or not child.has_room(raw):
            self.child = child  # for a job that fits
            return None
        if child.hand_over(raw):
            return child
        child.dismiss()
        return None

    def _current(self) -> Template:
        """The template, replaced if it is old. Raises OSError."""
        if self._template is not None and (
            time.monotonic() >= self._until or self._template.is_stale
        ):
            self._retire()
        if self._template is None:
            forge = self._context.slot.forge
            assert forge is not None
            self._template = Template(self._context, self._runner, forge, self._kin())
            self._until = time.monotonic() + _AGE
        return self._template

    def reopen(self) -> None:
        """Make the spare child reopen its logs; the template will be replaced."""
        if self.child is not None and self.child.pid > 0:
            self.child.signal_reopen()

    def tend(self) -> None:
        """Called when no job is to be started just now."""
        self._end_old()
        if self._template is not None:
            self._template.tend()

    def dismiss(self) -> None:
        """End the spare child: there are no jobs."""
        child, self.child = self.child, None
        if child is not None:
            if child.template is None or child.template.is_born(child):
                child.dismiss()
            else:
                child.close()
        self._retire()
        self.tend()

    def _end_old(self) -> None:
        """End replaced templates once they have no children."""
        for template in [each for each in self._old if each.broken or not each.children]:
            self._old.remove(template)
            template.end()

    def _retire(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            self._old.append(template)

    def close(self) -> None:
        """The worker exits, and has no other child left."""
        self.dismiss()
        for template in self._old:
            template.end()
        self._old.clear()


def _has_pidfds() -> bool:
    """Whether the kernel has pidfds: only they show the end of a process that is not a child."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True
