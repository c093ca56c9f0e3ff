"""A real `resqued` for a test: started as a user does, with a Redis server of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from resqued import linux
from resqued.control import packets
from resqued.control.client import Connection, NotReached, TookTooLong
from resqued.control.packets import ControlRequest
from resqued.testing import child

if TYPE_CHECKING:
    import redis
    from rq import Queue
    from rq.job import Job

_T = TypeVar("_T")

TIMEOUT: Final = 30.0
"""Seconds that a wait may take if the test does not say otherwise."""

_TURN: Final = 0.02
_ERROR: Final = re.compile(r"\b(ERROR|CRITICAL) |^Traceback \(most recent call last\)")
_ENDED: Final = ("finished", "failed", "stopped", "canceled")
_STEERING: Final = ("RESQUED_", "RQ_", "REDIS_", "PYTHON", "NOTIFY_SOCKET", "STATE_DIRECTORY")


class WaitedTooLong(AssertionError):
    """What was waited for has not come. The message ends with the log."""


class RunningResqued:
    """One `resqued` with its own server, working directory and state directory.

    Waits have a deadline and raise WaitedTooLong, also when resqued ends meanwhile.
    """

    _command = (sys.executable, "-m", "resqued")

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        url: str,
        connection: redis.Redis,
        socket: Path,
        env: Mapping[str, str],
    ) -> None:
        self.arguments = tuple(arguments)
        self.directory = directory
        """Its working directory."""
        self.redis = connection
        """A client of its server."""
        self._socket = socket
        self._log_file = directory / "output"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_STEERING)},
            "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RESQUED_CONTROL": str(socket),
            "RQ_REDIS_URL": url,
            "XDG_STATE_HOME": str(directory / "state"),
            **env,
        }
        self._process = child.start(
            [*self._command, *arguments], output=self._log_file, directory=directory, env=self._env
        )

    # What it says.

    @property
    def pid(self) -> int:
        """Of the arbiter."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the arbiter has not ended."""
        return self._process.poll() is None

    def log(self) -> str:
        """What all its processes have logged and printed so far."""
        return self._log_file.read_text(errors="replace")

    def errors(self) -> list[str]:
        """The lines of the log that are errors."""
        return [line for line in self.log().splitlines() if _ERROR.search(line)]

    def status(self) -> dict[str, Any]:
        """What `resqued --status --json` says of it. AssertionError if it does not answer."""
        pid_file = self.directory / "status.pid"
        pid_file.write_text(f"{self.pid}\n")
        done = subprocess.run(
            [*self._command, "--status", "--json", "--pid", str(pid_file)],
            cwd=self.directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, f"--status left with {done.returncode}: {done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def control(
        self, verb: str, arguments: Mapping[str, Any] | None = None, *, wait: bool = False
    ) -> dict[str, Any]:
        """Ask it over its control socket, as `resquedctl` does: `reload`, or a verb that a plugin
        answers in the hook `control`. wait: until it has come about. The facts of the answer.
        AssertionError if it refuses, or does not answer."""
        request = ControlRequest(verb, dict(arguments or {}), wait)
        try:
            with Connection(str(self._socket)) as client:
                *_, answer = client.ask(request, TIMEOUT)
        except (NotReached, TookTooLong) as error:
            raise AssertionError(f"control {verb}: {error or 'no answer in time'}") from error
        refusal = answer.facts.get("reason", answer.kind)
        assert answer.kind in (packets.ACCEPTED, packets.DONE), f"control {verb}: {refusal}"
        return answer.facts

    # Jobs.

    def queue(self, name: str = "default") -> Queue:
        """One of RQ's queues on its server."""
        from rq import Queue

        return Queue(name, connection=self.redis)

    def enqueue(self, function: str, *args: Any, queue: str = "default", **more: Any) -> Job:
        """Enqueue a job. function: a dotted name that its workers can import: `operator.add`, or
        `app.work` if the test gives it an `app`. more: as for `rq.Queue.enqueue`."""
        return self.queue(queue).enqueue(function, *args, **more)

    def wait_for_job(self, job: Job, timeout: float = TIMEOUT) -> Job:
        """Wait until a job has finished, failed or been stopped; the job as it is then."""

        def ended() -> bool:
            return job.get_status(refresh=True) in _ENDED

        self.wait_until(ended, f"the end of the job {job.description}", timeout)
        job.refresh()  # type: ignore[no-untyped-call]
        return job

    # Waiting.

    def mark(self) -> int:
        """The log's length now, for `wait_for_log(..., after=mark)`."""
        return len(self.log())

    def wait_for_log(
        self, pattern: str, *, timeout: float = TIMEOUT, after: int = 0
    ) -> re.Match[str]:
        """Wait until a regular expression is found in the log. after: from there on, as `mark()`
        has said."""
        compiled = re.compile(pattern, re.MULTILINE)
        found = self.wait_until(
            lambda: compiled.search(self.log(), after), f"{pattern!r} in the log", timeout
        )
        assert found is not None
        return found

    def wait_until(
        self, predicate: Callable[[], _T], what: str = "it", timeout: float = TIMEOUT
    ) -> _T:
        """Ask again and again until the answer is true, and return that. what: for the message."""
        end = time.monotonic() + timeout
        while True:
            running = self.running
            answer = predicate()  # once more, when it has ended or time is over
            if answer:
                return answer
            if not running:
                raise WaitedTooLong(f"resqued ended before there was {what}\n{self._story()}")
            if time.monotonic() > end:
                raise WaitedTooLong(f"waited {timeout:g} s for {what}\n{self._story()}")
            time.sleep(_TURN)

    # What one does to it.

    def signal(self, name: str, *, pid: int | None = None) -> None:
        """Send a signal by its short name, `HUP`, to the arbiter or to another process of it."""
        os.kill(self.pid if pid is None else pid, signal.Signals[f"SIG{name}"])

    def stop(self, name: str = "QUIT", timeout: float = TIMEOUT) -> int:
        """Send a signal that ends it, QUIT or TERM, and wait; its exit status, -N for a signal."""
        if self.running:
            self.signal(name)
        self.wait_until(lambda: not self.running, "its end", timeout)
        return self._process.returncode

    def kill(self) -> None:
        """End the arbiter and all that descends from it, at once. For the end of a test."""
        for pid in [self.pid, *_descendants(self.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def _story(self) -> str:
        return f"--- resqued {' '.join(self.arguments)}; its log:\n{self.log()}---"


def _descendants(pid: int) -> list[int]:
    """All that has an unbroken line of parents to a process."""
    parents = {each.pid: each.parent for each in linux.processes().values()}
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})
