"""The child that is forked ahead, while the one before it runs; by a template where that can be."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resqued.logs import logger
from resqued.worker.isolation.child import HasDescriptors, JobChild
from resqued.worker.isolation.template import Template

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.isolation.entry import IsolatedRunner

_AGE: Final = 10.0
"""Seconds after which a template goes: its children are as the worker was when it was forked."""


class Spares:
    """One worker's. Lives in the worker; at most one child waits.

    pure: no job runs in the worker itself, so that one child may be forked as the other. kin: all
    that children have no business with. fork: a child that waits, by the worker itself.
    """

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
        """If there is none."""
        if self.child is not None:
            return
        with contextlib.suppress(OSError):
            template = self._current() if self._pure else None
            self.child = self._fork() if template is None else template.order()
        self._end_old()

    def take(self, parcel: Callable[[], bytes | None]) -> JobChild | None:
        """The child, once it has the parcel; None if there is none, or it cannot have it."""
        child, self.child = self.child, None
        if child is None:
            return None
        if child.template is not None and not child.template.is_born(child, at_once=True):
            if not child.template.broken and not child.pid:
                self.child = child  # for the next job: the template is only just made
                return None
            logger.warning("the template of its children does not answer; forking another")
            child.close()
            self._retire()
            return None
        raw = parcel()
        if raw is None or not child.has_room(raw):
            self.child = child  # for a job that can be handed over
            return None
        if child.hand_over(raw):
            return child
        child.dismiss()
        return None

    def _current(self) -> Template:
        """Raises OSError."""
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
        """Have the child open its logs anew; the template is another one then."""
        if self.child is not None and self.child.pid > 0:
            self.child.signal_reopen()

    def tend(self) -> None:
        """There is no job to be started just now."""
        self._end_old()
        if self._template is not None:
            self._template.tend()

    def dismiss(self) -> None:
        """There are no jobs."""
        child, self.child = self.child, None
        if child is not None:
            if child.template is None or child.template.is_born(child):
                child.dismiss()
            else:
                child.close()
        self._retire()
        self.tend()

    def _end_old(self) -> None:
        """Old templates go with the last of their children."""
        for template in [each for each in self._old if each.broken or not each.children]:
            self._old.remove(template)
            template.end()

    def _retire(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            self._old.append(template)

    def close(self) -> None:
        """The worker leaves, and no child of it is left."""
        self.dismiss()
        for template in self._old:
            template.end()
        self._old.clear()


def _has_pidfds() -> bool:
    """Whether the end of what is no child of ours can be seen."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True
