"""The paths of the server, and who may ask for them. Runs in the server's thread."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from resqued import Arbiter
from resqued_plugins.http import exposition, message, probes
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.history import History
from resqued_plugins.http.message import HttpRequest, Response
from resqued_plugins.http.metrics import FRESH, Metrics
from resqued_plugins.http.page import page
from resqued_plugins.http.status import status

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
"""What the Host header may say on loopback: a page elsewhere that a browser was sent to this
address under another name gets nothing."""


class Site:
    """Answers requests. loopback: only this machine reaches the server."""

    def __init__(
        self,
        arbiter: Arbiter,
        counts: Counts,
        metrics: Metrics,
        history: History,
        *,
        loopback: bool,
    ) -> None:
        self._arbiter = arbiter
        self._counts = counts
        self._metrics = metrics
        self._history = history
        self._loopback = loopback
        self._page = page()
        self._status = message.text(404, "")
        self._status_at = -FRESH

    @property
    def shows_status(self) -> bool:
        """Whether it has the page, and what the page asks for."""
        return self._loopback or bool(self._arbiter.config.http_status)

    def answer(self, request: HttpRequest) -> Response:
        """The response to a request."""
        if self._loopback and request.host is not None and request.host not in LOCAL:
            return message.text(421, f"the Host header must be one of {', '.join(LOCAL)}")
        match request.path:
            case "/livez":
                return _probe(probes.live(self._arbiter, time.monotonic()))
            case "/readyz":
                config = self._arbiter.config
                return _probe(probes.ready(self._arbiter, config.ready_workers))
            case "/metrics":
                return Response(200, self._metrics.text(), exposition.TYPE)
            case "/" | "/status.json" | "/history.json" if not self.shows_status:
                return message.text(404, "only on loopback, or with --http-status")
            case "/":
                return self._page
            case "/status.json":
                return self._status_now()
            case "/history.json":
                return as_json(self._history.as_plain())
        return message.text(404, "there is nothing here")

    def _status_now(self) -> Response:
        """At most FRESH seconds old."""
        now = time.monotonic()
        if now - self._status_at >= FRESH:
            self._status = as_json(status(self._arbiter, self._counts, self._history))
            self._status_at = now
        return self._status


def _probe(verdict: probes.ProbeAnswer) -> Response:
    return as_json(verdict.facts, 200 if verdict.ok else 503)


def as_json(facts: Any, status: int = 200) -> Response:
    """Plain JSON, all ASCII."""
    return Response(status, json.dumps(facts).encode() + b"\n", "application/json")
