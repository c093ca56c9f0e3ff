"""A real PostgreSQL on a unix socket, whose backends tests may kill."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from harness import needs, processes
from harness.waiting import scaled, wait_for

OWNER = "postgres"
"""The user that Debian's package makes; the server refuses to run as root."""


class Postgres:
    """One server, with one database `shop` of the user `postgres`."""

    def __init__(self) -> None:
        programs = [needs.program(name, "postgresql") for name in ("initdb", "postgres")]
        self._as_owner = ["setpriv", "--pdeathsig", "KILL"]  # no server outlives a killed run
        self.directory = Path(tempfile.mkdtemp(prefix="resqued-postgres-"))
        self._data = self.directory / "data"
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            self._as_owner += [f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups"]
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        initdb, self._program = programs
        words = ["-A", "trust", "-U", "postgres", "--no-sync"]
        self._run(initdb, "-D", str(self._data), *words)
        self._run(
            *(self._program, "--single", "-D", str(self._data), "postgres"),
            say=b"CREATE DATABASE shop;\n",
        )
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """Where libpq finds it."""
        return {"PGHOST": str(self.directory), "PGUSER": "postgres", "PGDATABASE": "shop"}

    def start(self) -> None:
        words = [self._program, "-D", str(self._data), "-k", str(self.directory)]
        words += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off"]
        self._process = subprocess.Popen(
            [*self._as_owner, *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        ready = self.directory / "data" / "postmaster.pid"
        wait_for(lambda: ready.exists() and "ready" in ready.read_text(), 30, "PostgreSQL")

    def stop(self) -> None:
        """At once: connections are cut."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(scaled(20))

    def backends(self) -> list[psutil.Process]:
        """Of the clients of the database `shop`."""
        children = psutil.Process(self._process.pid).children()
        return [each for each in children if " shop [local] " in processes.title(each)]

    def kill_backends(self) -> int:
        """End them in order, as pg_terminate_backend does; how many there were."""
        found = self.backends()
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):  # a job's connection was closed by it
                each.terminate()
        psutil.wait_procs(found, scaled(10))
        return len(found)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def _run(self, *words: str, say: bytes = b"") -> None:
        done = subprocess.run(
            [*self._as_owner, *words], cwd=self.directory, input=say, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
