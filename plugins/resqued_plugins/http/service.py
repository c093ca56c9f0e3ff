"""The server in its thread, from the start of the arbiter to its end."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

from loguru import logger

from resqued import Arbiter, ConfigError, Exit, Worker
from resqued_plugins.http import address, carried
from resqued_plugins.http.carried import Carried
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.history import History
from resqued_plugins.http.metrics import Metrics
from resqued_plugins.http.server import Server
from resqued_plugins.http.site import Site
from resqued_plugins.http.tally import Tally

TURN: Final = 2.0
"""Seconds that the thread serves between two looks at whether it shall end."""


class Service:
    """Made in the arbiter's loop, whose hooks call it; `_turn` alone runs in the thread."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._server: Server | None = None
        self._address: str | None = None
        self._carried: Carried | None = None
        self._running = False
        self._tally = Tally()
        self._counts = Counts(arbiter)
        self._metrics = Metrics(arbiter, self._counts, self._tally)
        self._history = History()
        self._site: Site | None = None

    def start(self, reason: str) -> None:
        """Listen, and begin to serve. reason: as for `arbiter_started`. Raises ConfigError."""
        listener, facts = carried.take(os.environ)
        self._tally.restore(facts.get("tally", {}))
        self._history.restore(facts.get("history", {}))
        wanted = self._arbiter.config.http
        if listener is not None and wanted is not None and facts.get("address") == wanted:
            self._serve(listener, wanted)
            return
        if listener is not None:
            listener.close()
        self.adjust(demanded=reason == "start")

    def adjust(self, *, demanded: bool = False) -> None:
        """Listen where the settings in force say. demanded: raise ConfigError if that cannot be,
        rather than stay where it is."""
        wanted = self._arbiter.config.http
        if wanted == self._address:
            return
        try:
            listener = address.listen(wanted) if wanted is not None else None
        except OSError as error:
            number = error.errno or 0  # negative for a host without an address
            why = os.strerror(number) if number > 0 else error.strerror or str(error)
            problem = f"cannot listen on {wanted}: {why}"
            if demanded:
                raise ConfigError("http", problem) from None
            logger.error(f"http: {problem}")
            return
        self._stop()
        if listener is not None and wanted is not None:
            self._serve(listener, wanted)

    def _serve(self, listener: socket.socket, wanted: str) -> None:
        loopback = address.is_loopback(listener)
        self._site = Site(
            self._arbiter, self._counts, self._metrics, self._history, loopback=loopback
        )
        self._server = Server(listener, self._site.answer)
        self._address = wanted
        logger.info(f"http: listening on {address.shown(listener)}")
        if not self._running:
            self._running = True
            self._arbiter.every(0.01, self._turn)

    def _turn(self) -> None:
        server = self._server
        if server is None:  # a reload has taken the address away
            time.sleep(TURN)
            return
        if self._site is not None and self._site.shows_status:
            self._history.step(self._arbiter, self._counts)
        try:
            server.turn(TURN)
        except OSError:
            if server.is_intact:
                raise
            server.forget()
            self._arbiter.call_soon(self._listen_again)

    def _listen_again(self) -> None:
        logger.error("http: a plugin has closed its socket; it listens anew")
        self._server = self._address = None
        self.adjust()

    def hand_over(self, env: dict[str, str]) -> None:
        """Leave the socket to the next image. env: of that one."""
        self.keep()
        if self._server is not None:
            self._carried = Carried(self._server.listener, env)
            self._write()

    def _write(self) -> None:
        """While an image is about to come, each count is written down for it."""
        if self._carried is not None:
            facts = {
                "address": self._address,
                "tally": self._tally.as_plain(),
                "history": self._history.as_plain(),
            }
            self._carried.write(facts)

    def exited(self, worker: Worker, exit: Exit) -> None:
        """A worker has left."""
        cause = self._tally.exited(exit)
        self._metrics.application.exited(worker.pid)
        if not exit.expected:
            job = f" with {exit.function or ''} {exit.job_id}" if exit.job_id else ""
            text = f"worker {worker.number} died ({cause}, {exit}){job}"
            self._history.mark("worker_died", text)
        self._write()

    def reloaded(self, number: int, error: str | None) -> None:
        """A reload is over. number: of its generation. error: why it has failed."""
        self._tally.reloaded(number, error)
        if error is None:
            self.mark("reload_done", f"generation {number} in service")
        else:
            self.mark("reload_failed", f"reload failed: {error}")

    def mark(self, event: str, text: str) -> None:
        """Something else has happened."""
        self._history.mark(event, text)
        self._write()

    def keep(self) -> None:
        """The next image has not come."""
        if self._carried is not None:
            self._carried.close()
            self._carried = None

    def _stop(self) -> None:
        self.keep()
        if self._server is not None:
            logger.info(f"http: no longer on {address.shown(self._server.listener)}")
            self._server.close()
        self._server = self._address = None

    def close(self) -> None:
        """End for good."""
        self.keep()
        if self._server is not None:
            self._server.close()
