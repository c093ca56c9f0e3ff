"""Every misbehaviour in every hook: the arbiter obeys QUIT, and no job is lost.

One run comes by all hooks, and each of them misbehaves once. With RESQUED_HYPOTHESIS=long every
hook misbehaves in a run of its own, with the true limits of time.
"""

from __future__ import annotations

import ast
import functools
import time
from pathlib import Path

import pytest

import resqued as package
from harness import examples, jobs
from harness.command import Resqued
from harness.misbehaving import HOOKS, KINDS
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, wait_for

QUIT_WITHIN = 15.0
"""Seconds from QUIT to the arbiter's end."""

HAPPENS = 30.0
"""Seconds, at most, that a run waits for a hook to be called."""

IN_A_RELOAD = {"add_options", "configure", "choose_queues", "before_load", "app_loaded", "duties"}

APP = """
    from pathlib import Path
    import harness.jobs

    if Path(__file__).with_name("broken").exists():
        raise ValueError("on purpose")
"""

AT_THE_END = {"arbiter_stopping", "worker_exiting", "arbiter_exited"}


@functools.cache
def called_by_the_code() -> frozenset[str]:
    """The hooks that some module of resqued names to call them."""
    named: set[str] = set()
    for path in Path(package.__file__).parent.rglob("*.py"):
        if (
            path.name in ("hookspecs.py", "answers.py", "hook_examples.py")
            or "testing" in path.parts
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                named.add(str(node.args[0].value))
    return frozenset({"before_fork", "perform_job", *(named & set(HOOKS))}) - {"control"}


class Run:
    """One arbiter whose hooks misbehave."""

    def __init__(
        self, resqued, queue, connection, tmp_path: Path, kind: str, hooks: str = ""
    ) -> None:
        self.folder = tmp_path / "misbehaving"
        self.folder.mkdir()
        self.queue = queue()
        self.connection = connection
        self.jobs: list[str] = []
        self.hooks = called_by_the_code() & set(hooks.split() or HOOKS)
        env = {} if examples.LONG else {"RESQUED_SHORT_LIMITS": "1"}
        limits = ["--boot-timeout", 6, "--loop-timeout", 3, "--kill-after", 0, "--grace", 5]
        self.arbiter: Resqued = resqued(
            "-n", 2, "-r", "app", "-p", "harness.misbehaving", *limits,
            app=APP,
            expect_errors=".",
            RESQUED_MISBEHAVIOUR=kind,
            RESQUED_MISBEHAVING=str(self.folder),
            RESQUED_MISBEHAVE_IN=hooks,
            **env,
        )  # fmt: skip

    def put(self, function, *arguments, **options) -> None:
        job = self.queue.enqueue(function, *arguments, result_ttl=3600, **options)
        self.jobs.append(job.id)

    def has(self, hook: str) -> bool:
        """Whether that hook has misbehaved."""
        return (self.folder / hook).exists()

    def until(self, *hooks: str) -> None:
        """Wait until these have misbehaved; `missing` tells at the end which have not."""
        wanted = [each for each in hooks if each in self.hooks]
        self.settle(lambda: all(map(self.has, wanted)))

    def settle(self, fact) -> None:
        until = time.monotonic() + HAPPENS
        wait_for(
            lambda: fact() or not self.arbiter.running or time.monotonic() > until, 2 * HAPPENS
        )

    def missing(self) -> set[str]:
        """Hooks that were to misbehave and have not."""
        return {hook for hook in self.hooks if not self.has(hook)}

    def come_by_all_hooks(self) -> None:
        """Step by step, until all that shall have misbehaved."""
        self.start()
        for step in (self.work, self.lose_jobs, self.reload, self.renew):
            if self.missing() - AT_THE_END:
                step()

    def start(self) -> None:
        self.until("arbiter_started", "before_fork", "after_fork", "worker_ready", "tick")
        self.settle(lambda: " ready, queues=" in self.arbiter.log())
        if self.hooks & {"arbiter_ready"}:
            self.settle((self.folder / "arbiter_ready.called").exists)
        (self.folder / "up").touch()

    def work(self) -> None:
        for _ in range(4):
            self.put(jobs.noop)
        self.until("before_job", "perform_job", "after_job", "order_queues", "worker_count")

    def lose_jobs(self) -> None:
        self.put(jobs.vanish)
        self.until("worker_exited", "job_lost", "should_recycle")
        self.put(jobs.stuck_in_c, job_timeout=1)
        self.arbiter.signal("USR1")
        self.until("reopen_logs", "signal_received", "worker_stuck")

    def reload(self) -> None:
        """Again and again: a hook that raises ends a reload, and those after it are not called."""
        for _ in range(len(IN_A_RELOAD) + 2):
            if not self.missing() & IN_A_RELOAD:
                break
            self.hang_up()
        if "generation_failed" in self.missing():
            (self.arbiter.directory / "broken").touch()
            self.hang_up()
            (self.arbiter.directory / "broken").unlink()
            self.until("generation_failed")

    def hang_up(self) -> None:
        mark = self.arbiter.mark()
        self.arbiter.signal("HUP")
        self.settle(lambda: _is_over(self.arbiter.log()[mark:]) or not self.missing())

    def renew(self) -> None:
        self.arbiter.signal("USR2")
        self.until("before_exec")
        self.put(jobs.noop)

    def quit(self) -> float:
        """QUIT; the seconds until it has left."""
        began = time.monotonic()
        self.arbiter.signal("QUIT")
        self.arbiter.exit(QUIT_WITHIN)
        return time.monotonic() - began

    def check_jobs(self) -> None:
        """Each is in one place, and none is stuck as started."""
        for job_id, place in assert_one_place_each(self.connection, self.jobs).items():
            kind = place.partition(":")[0]
            assert kind in ("queue", "finished", "failed", "scheduled"), f"{job_id}: {place}"


def _is_over(log: str) -> bool:
    return any(text in log for text in (" retired", "reload failed"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "swallow"])
def test_whatever_hooks_do_the_arbiter_obeys_quit_and_no_job_is_lost(
    resqued, queue, connection, tmp_path, kind
):
    run = Run(resqued, queue, connection, tmp_path, kind)
    run.come_by_all_hooks()
    assert run.arbiter.running, run.arbiter.story()
    assert run.quit() < scaled(QUIT_WITHIN)
    run.check_jobs()
    assert not run.missing(), f"have not misbehaved: {run.missing()}\n{run.arbiter.story()}"


SOME = (
    "arbiter_started",
    "configure",
    "before_exec",
    "arbiter_stopping",
    "arbiter_exited",
    "before_fork",
    "before_job",
)
"""One hook for each way in which one that swallows its limit is ended: the arbiter's image without
a service, in a reload, in a re-exec, in a stop and after it; a fork server; a worker."""


EACH = (
    [(kind, hook) for kind in KINDS for hook in HOOKS]
    if examples.LONG
    else [("swallow", hook) for hook in SOME]
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "hook"), EACH)
def test_one_hook_by_itself(resqued, queue, connection, tmp_path, kind, hook):
    """A run in which one hook misbehaves, and QUIT comes while it does."""
    run = Run(resqued, queue, connection, tmp_path, kind, hook)
    run.come_by_all_hooks()
    assert run.arbiter.running, run.arbiter.story()
    assert run.quit() < scaled(QUIT_WITHIN)
    run.check_jobs()
    if hook in called_by_the_code():
        assert run.has(hook), f"{hook} has not misbehaved\n{run.arbiter.story()}"
