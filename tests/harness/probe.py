"""A plugin that implements every hook and writes down each call, for the tests of the hooks.

    resqued -p harness.probe      with RESQUED_PROBE naming the file

A line is `pid role hook {arguments}`, written with one O_APPEND write. The role is found out
without asking resqued: a worker was forked since this file was imported, a fork server is what
was started as one, and so is a `--check`; the rest is the arbiter and the command line.
RESQUED_FAULTS makes hooks misbehave, as in
`after_fork=raise,tick=hang`: raise, exit (SystemExit), hang (the first time, in Python code),
refuse (ConfigError) or veto (VetoFork).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resqued import ConfigError, VetoFork, hookimpl

HOME = os.getpid()
"""The process that imported this file; another one was forked from it."""


def role() -> str:
    if os.getpid() != HOME:
        return "worker"
    if "--check" in sys.orig_argv:
        return "check"
    return "forkserver" if "--fork-server" in sys.orig_argv else "arbiter"


_hung: set[str] = set()


class Broken(Exception):
    """What a hook raises that was told to."""


def plain(value: Any) -> Any:
    """What a test wants to see of an argument."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    name = type(value).__name__
    if name == "Worker":
        names = tuple(each for each in vars(value) if each != "config")
        return {each: plain(getattr(value, each)) for each in names}
    if name in ("Exit", "Outcome", "Generation"):
        return {each: plain(item) for each, item in vars(value).items() if each != "config"}
    if hasattr(value, "func_name"):  # a job
        return value.id
    return name


def called(hook: str, **arguments: Any) -> None:
    """Write the line, then misbehave if told to."""
    path = os.environ.get("RESQUED_PROBE")
    if path:
        shown = json.dumps({name: plain(value) for name, value in arguments.items()})
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, f"{os.getpid()} {role()} {hook} {shown}\n".encode())
        os.close(fd)
    faults = dict(re.findall(r"(\w+)=(\w+)", os.environ.get("RESQUED_FAULTS", "")))
    fault = faults.get(hook)
    if fault == "raise":
        raise Broken(f"{hook} was told to raise")
    if fault == "exit":
        sys.exit(f"{hook} was told to exit")
    if fault == "veto":
        raise VetoFork(f"{hook} was told to veto", retry_after=0.2)
    if fault == "refuse":
        raise ConfigError("workers", f"{hook} was told to refuse")
    if fault == "hang" and hook not in _hung:
        _hung.add(hook)
        while True:
            time.sleep(0.05)


@hookimpl
def add_options(options: Any) -> None:
    called("add_options", options=options)


@hookimpl
def configure(config: Any) -> None:
    called("configure", config=config)


@hookimpl
def arbiter_started(arbiter: Any, reason: str) -> None:
    called("arbiter_started", arbiter=arbiter, reason=reason)


@hookimpl
def fork_server_env(env: dict[str, str]) -> None:
    called("fork_server_env", env=env)


@hookimpl
def arbiter_ready(arbiter: Any, reason: str, error: str | None) -> None:
    called("arbiter_ready", arbiter=arbiter, reason=reason, error=error)


@hookimpl
def generation_failed(arbiter: Any, generation: Any, reason: str) -> None:
    called("generation_failed", arbiter=arbiter, generation=generation, reason=reason)


@hookimpl(tryfirst=True)
def control(arbiter: Any, verb: str, arguments: dict[str, Any]) -> None:
    called("control", arbiter=arbiter, verb=verb, arguments=arguments)


@hookimpl
def worker_started(arbiter: Any, worker: Any) -> None:
    called("worker_started", arbiter=arbiter, worker=worker)


@hookimpl
def job_lost(arbiter: Any, worker: Any, job_id: str, verdict: str) -> None:
    called("job_lost", arbiter=arbiter, worker=worker, job_id=job_id, verdict=verdict)


@hookimpl
def before_load(generation: Any) -> None:
    called("before_load", generation=generation)


@hookimpl
def order_queues(worker: Any, queues: list[str]) -> None:
    called("order_queues", worker=worker, queues=queues)


@hookimpl
def arbiter_stopping(arbiter: Any, graceful: bool, dropped: bool) -> None:
    called("arbiter_stopping", arbiter=arbiter, graceful=graceful, dropped=dropped)


@hookimpl
def arbiter_exited(arbiter: Any, exit_code: int) -> None:
    called("arbiter_exited", arbiter=arbiter, exit_code=exit_code)


@hookimpl
def tick(arbiter: Any, now: float) -> None:
    called("tick", arbiter=arbiter, now=now)


@hookimpl
def signal_received(arbiter: Any, signame: str) -> None:
    called("signal_received", arbiter=arbiter, signame=signame)


@hookimpl
def before_exec(arbiter: Any, argv: list[str], env: dict[str, str]) -> None:
    called("before_exec", arbiter=arbiter, argv=argv)


@hookimpl(tryfirst=True)
def choose_queues(config: Any, number: int, count: int) -> None:
    called("choose_queues", number=number, count=count)


@hookimpl
def worker_count(arbiter: Any, current: int) -> None:
    called("worker_count", arbiter=arbiter, current=current)


@hookimpl(tryfirst=True)
def worker_stuck(arbiter: Any, worker: Any, overdue: float, attempt: int) -> None:
    called("worker_stuck", arbiter=arbiter, worker=worker, overdue=overdue, attempt=attempt)


@hookimpl
def worker_exited(arbiter: Any, worker: Any, exit: Any) -> None:
    called("worker_exited", arbiter=arbiter, worker=worker, exit=exit)


@hookimpl
def app_loaded(generation: Any) -> None:
    called("app_loaded", generation=generation)


@hookimpl
def duties(duties: Any, generation: Any) -> None:
    called("duties", duties=duties, generation=generation)


@hookimpl
def before_fork(worker: Any) -> None:
    called("before_fork", worker=worker)


@hookimpl
def after_fork(worker: Any) -> None:
    called("after_fork", worker=worker)


@hookimpl
def worker_ready(worker: Any, rq_worker: Any) -> None:
    called("worker_ready", worker=worker, rq_worker=rq_worker)


@hookimpl(tryfirst=True)
def should_recycle(worker: Any) -> None:
    called("should_recycle", worker=worker)


@hookimpl
def worker_exiting(worker: Any, reason: str) -> None:
    called("worker_exiting", worker=worker, reason=reason)


@hookimpl
def before_job(worker: Any, job: Any) -> None:
    called("before_job", worker=worker, job=job)


@hookimpl
def after_job(worker: Any, job: Any, outcome: Any) -> None:
    called("after_job", worker=worker, job=job, outcome=outcome)


@hookimpl(wrapper=True)
def perform_job(worker: Any, job: Any) -> Generator[None, Any, Any]:
    called("perform_job", worker=worker, job=job)
    return (yield)


@hookimpl
def reopen_logs(role: str) -> None:
    called("reopen_logs", role=role)


@dataclass(frozen=True)
class Call:
    """One line of the probe's file."""

    pid: int
    role: str
    hook: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.role} {self.hook}"


def read_calls(path: Path) -> list[Call]:
    """Every call so far, in order."""
    calls = []
    for line in path.read_text().splitlines() if path.exists() else []:
        pid, role, hook, arguments = line.split(" ", 3)
        calls.append(Call(int(pid), role, hook, json.loads(arguments)))
    return calls
