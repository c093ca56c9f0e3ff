"""Which lines are about the job in hand: by thread, without a context variable."""

from __future__ import annotations

import os
import queue
import threading

from harness.waiting import wait_for
from resqued import linux
from resqued.logs.job_context import JobContext


class Asked:
    """A thread that tells what the context's fields are in it, whenever it is asked."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._questions: queue.Queue[bool] = queue.Queue()
        self._answers: queue.Queue[object] = queue.Queue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self._questions.get():
            self._answers.put(dict(self._context.fields()))

    def fields(self) -> object:
        self._questions.put(True)
        return self._answers.get(timeout=10)

    def end(self) -> None:
        self._questions.put(False)
        self._thread.join()


def _next_tick() -> None:
    now = linux.boot_ticks()
    wait_for(lambda: linux.boot_ticks() > now, 5, "the clock to tick")


def test_threads_that_the_job_has_started_belong_to_it_and_older_ones_do_not():
    context = JobContext()
    older = Asked(context)
    job = {"job": "a1", "queue": "high", "function": "app.f"}
    try:
        assert context.fields() == {}
        _next_tick()
        context.bind("a1", "high", "app.f", failure_follows=True)
        younger = Asked(context)
        try:
            assert context.fields() == job
            assert younger.fields() == job
            assert older.fields() == {}
            context.unbind()
            assert younger.fields() == context.fields() == {}
            assert not context.failure_follows
            _next_tick()
            context.bind("a2", "high", "app.f", failure_follows=True)
            assert younger.fields() == {}  # the last job has left it running
        finally:
            younger.end()
    finally:
        older.end()


def test_a_forked_child_of_the_job_belongs_to_it():
    context = JobContext()
    context.bind("a1", "high", "app.f", failure_follows=True)
    child = os.fork()
    if child == 0:
        os._exit(0 if context.fields().get("job") == "a1" else 1)
    assert os.waitpid(child, 0)[1] == 0
