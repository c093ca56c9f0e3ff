"""The installed command, started as a user does, and looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from harness import processes
from harness.ledger import Ledger
from harness.probe import Call, read_calls
from harness.waiting import WaitedTooLong, scaled, wait_for, wait_for_exit

T = TypeVar("T")

BIN = Path(sys.executable).parent
COMMAND = str(BIN / "resqued")
TESTS = Path(__file__).parent.parent

_WORKER = re.compile(r"resqued: worker (\d+)\b")
_FORK_SERVER = re.compile(r"resqued: fork server")
_COMPLAINT = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback \(most recent|\[BUG\]|Exception ignored")


def environment(**changes: str) -> dict[str, str]:
    """What a user's shell has, without what would steer resqued, RQ or Python itself."""
    steering = ("RESQUED_", "RQ_", "PYTHON", "NOTIFY_SOCKET", "STATE_DIRECTORY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    # a module that a test writes again within the second would be read from its old .pyc
    return {**kept, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1", **changes}


def run(
    *arguments: object, cwd: Path, timeout: float = 30, under: Sequence[str] = (), **env: str
) -> tuple[int, str, str]:
    """Run the command to its end: status, standard output, standard error."""
    done = subprocess.run(
        [*under, COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=scaled(timeout),
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


class Resqued:
    """One running `resqued`, in a session and a working directory of its own.

    pid is the arbiter's: of the process started, or with -D what its pid file says.
    under: a command that starts it, such as `unshare`; then pid is that one's. command: another
    `resqued` than this checkout's.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        directory: Path,
        env: Mapping[str, str],
        expect_errors: str,
        under: Sequence[str] = (),
        command: str = COMMAND,
    ) -> None:
        self.directory = directory
        self.expect_errors = expect_errors
        self.daemon = "-D" in arguments or "--daemonize" in arguments
        self.output = directory / "output"
        self.pid_file = directory / "resqued.pid"
        self.ledger = Ledger(directory / "ledger")
        self.log_file = self.output
        if self.daemon:
            self.log_file = directory / "resqued.log"
            arguments = [*arguments, "--pid", str(self.pid_file), "--log-file", str(self.log_file)]
        self.arguments = arguments
        self.env = environment(
            **{
                "RESQUED_PROBE": str(directory / "probe"),
                "RESQUED_LEDGER": str(directory / "ledger"),
                "XDG_STATE_HOME": str(directory / "state"),
                "XDG_RUNTIME_DIR": str(directory),
                **env,
            }
        )
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*under, command, *arguments],
                cwd=directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._pid = self.process.pid
        if self.daemon:
            status = wait_for_exit(self.process, 60)
            assert status == 0, f"resqued -D left with {status}\n{self.story()}"
            self._pid = int(self.pid_file.read_text())
        self.status_code: int | None = None

    # What it is asked for.

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.directory / "resqued" / f"{self.pid}.sock"

    def control(self, *words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `resquedctl` for it, to the end."""
        return subprocess.run(
            [str(BIN / "resquedctl"), "--control", str(self.socket), *map(str, words)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=scaled(timeout),
            stdin=subprocess.DEVNULL,
        )

    # What it says.

    @property
    def pid(self) -> int:
        return self._pid

    def log(self) -> str:
        """Everything it has written so far, from all its processes."""
        paths = [self.output] if self.log_file == self.output else [self.output, self.log_file]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def mark(self) -> int:
        """A place in the log, for `wait_for(..., after=mark)`."""
        return len(self.log())

    def wait_for(
        self, pattern: str, *, times: int = 1, timeout: float = 10, after: int = 0
    ) -> list[re.Match[str]]:
        """Wait until the log has `times` matches of a regular expression; all of them."""
        compiled = re.compile(pattern, re.MULTILINE)

        def enough() -> list[re.Match[str]]:
            found = list(compiled.finditer(self.log(), after))
            return found if len(found) >= times else []

        return self._wait(enough, timeout, f"{times} of {pattern!r} in the log")

    def _wait(self, predicate: Callable[[], T], timeout: float, what: str) -> T:
        """As `wait_for`, but not beyond the arbiter's end, and a failure shows the story."""

        def unless_gone() -> T | _Gone:
            gone = self._gone()  # asked before: what it did last counts
            return predicate() or (_Gone() if gone else predicate())

        try:
            answer = wait_for(unless_gone, timeout, what)
        except WaitedTooLong as error:
            raise WaitedTooLong(f"{error}\n{self.story()}") from None
        if isinstance(answer, _Gone):
            raise WaitedTooLong(f"the arbiter left before there was {what}\n{self.story()}")
        return answer

    def calls(self, hook: str | None = None) -> list[Call]:
        """What the probe has seen (start with `probe=True`)."""
        return [call for call in read_calls(self.directory / "probe") if hook in (None, call.hook)]

    def wait_for_call(self, hook: str, *, times: int = 1, timeout: float = 10) -> list[Call]:
        def enough() -> list[Call]:
            calls = self.calls(hook)
            return calls if len(calls) >= times else []

        return self._wait(enough, timeout, f"{times} calls of {hook}")

    def status(self) -> dict[str, Any]:
        """What `resqued --status --json` prints."""
        pid_file = self.directory / "status.pid"
        pid_file.write_text(f"{self.pid}\n")
        code, out, err = run(
            "--status", "--json", "--pid", pid_file, cwd=self.directory, RESQUED_CONFIG=""
        )
        assert code == 0, f"--status left with {code}: {err}"
        answer: dict[str, Any] = json.loads(out)
        return answer

    # What the kernel says.

    def tree(self) -> str:
        """The arbiter and its descendants, a line each."""
        try:
            arbiter = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return "(the arbiter is gone)"
        return "\n".join(map(processes.describe, [arbiter, *processes.descendants(self.pid)]))

    def workers(self) -> dict[int, psutil.Process]:
        """Living workers by their number, by what `ps` shows of them."""
        found = {}
        for process in processes.descendants(self.pid):
            match = _WORKER.match(processes.title(process))
            if match and not _is_newborn(process):
                found[int(match[1])] = process
        return dict(sorted(found.items()))

    def fork_servers(self) -> list[psutil.Process]:
        """Living fork servers, the oldest first.

        What one has forked has its title too, until it has one of its own.
        """
        children = processes.descendants(self.pid)
        titled = [child for child in children if _FORK_SERVER.match(processes.title(child))]
        pids = {each.pid for each in titled}
        return [each for each in titled if processes.parent(each) not in pids]

    def stewards(self) -> list[psutil.Process]:
        """Living stewards, the oldest first."""
        children = processes.descendants(self.pid)
        return [child for child in children if processes.title(child) == "resqued: steward"]

    def wait_for_steward(self, other_than: int = 0, timeout: float = 10) -> psutil.Process:
        """Wait until there is exactly one, a new one, and its hello is on the scoreboard."""

        def new() -> psutil.Process | None:
            found = self.stewards()
            there = len(found) == 1 and found[0].pid != other_than
            return found[0] if there and self.status()["steward"] == found[0].pid else None

        steward = self._wait(new, timeout, "a steward")
        assert steward is not None
        return steward

    def wait_for_workers(self, count: int, timeout: float = 20) -> dict[int, psutil.Process]:
        """Wait until exactly so many are ready, idle or busy, by what `ps` shows; they are it."""

        def enough() -> dict[int, psutil.Process] | None:
            found = self.workers()
            ready = [p for p in found.values() if _is_ready(processes.title(p))]
            return found if len(found) == len(ready) == count else None

        if count == 0:
            self._wait(lambda: not self.workers(), timeout, "no worker")
            return {}
        workers = self._wait(enough, timeout, f"{count} workers to be ready")
        assert workers is not None
        return workers

    # What one does to it.

    def signal(self, *names: str, pid: int | None = None) -> None:
        """Send signals, by their short names, to the arbiter or to another of its processes."""
        for name in names:
            os.kill(pid or self.pid, signal.Signals[f"SIG{name}"])

    def exit(self, timeout: float = 10) -> int:
        """Wait for the arbiter's end; its exit status, -N for a signal.

        A daemon became our child when its launcher left, since the test run is a subreaper.
        """
        if self.status_code is None:
            try:
                if self.daemon:
                    wait_for(self._gone, timeout, "the arbiter to end")
                    self.status_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                else:
                    self.status_code = wait_for_exit(self.process, timeout)
            except WaitedTooLong as error:
                raise WaitedTooLong(f"{error}\n{self.story()}") from None
        return self.status_code

    def stop(self, name: str = "TERM", timeout: float = 10) -> int:
        """Signal, wait, and give the exit status."""
        self.signal(name)
        return self.exit(timeout)

    def destroy(self) -> None:
        """SIGKILL to all of it at once, as when the power fails."""
        everybody = [psutil.Process(self.process.pid), *processes.descendants(self.process.pid)]
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for process in everybody:
                with contextlib.suppress(ProcessLookupError):  # process 1 has taken it along
                    os.kill(process.pid, signum)
        self.exit()

    @property
    def running(self) -> bool:
        return self.status_code is None and not self._gone()

    def _gone(self) -> bool:
        return not processes.alive(self.pid)

    # How it must end.

    def complaints(self) -> list[str]:
        """Log lines that no test may have, but for those it has announced."""
        lines = [line for line in self.log().splitlines() if _COMPLAINT.search(line)]
        if not self.expect_errors:
            return lines
        return [line for line in lines if not re.search(self.expect_errors, line)]

    def story(self) -> str:
        """What a failed test shows."""
        return (
            f"--- resqued {' '.join(self.arguments)}\n--- in {self.directory}\n"
            f"{self.tree()}\n--- its log\n{self.log()}---"
        )


class _Gone:
    """An answer: the arbiter has left, and what was waited for has not come."""


def _is_newborn(process: psutil.Process) -> bool:
    """A child for a job, in the instant before it has a title of its own."""
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return True
    return parent is not None and bool(_WORKER.match(processes.title(parent)))


def _is_ready(title: str) -> bool:
    """`[idle]`, or a job in hand; not `[booting]`, `[connecting]`, `[stopping]`."""
    return bool(re.search(r"\[(idle|[\w.]+ since [\d:]+)\]", title))
