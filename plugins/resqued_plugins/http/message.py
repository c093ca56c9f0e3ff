"""Requests and responses of HTTP/1.1, as far as probes, scrapes and one page need them."""

from __future__ import annotations

import http
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LONGEST: Final = 8192
"""Bytes of a request with its headers."""

_LINE: Final = re.compile(rb"([A-Z]{1,20}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_HEADER: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*"
)
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]*)(:[0-9]{1,5})?")

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Connection": "close",
}
"""Headers of every response."""


class BadRequest(Exception):
    """Cannot be answered but with this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True)
class HttpRequest:
    """One without a body."""

    method: str
    path: str
    """Without the query."""
    host: str | None
    """The header's, without a port; None in HTTP/1.0 without one."""


@dataclass(frozen=True)
class Response:
    """What is sent, once, before the connection is closed."""

    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, body: bool = True) -> bytes:
        """As it is sent. body: False for HEAD."""
        headers = {
            "Content-Type": self.type,
            "Content-Length": str(len(self.body)),
            **ALWAYS,
            **self.headers,
        }
        phrase = http.HTTPStatus(self.status).phrase
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        return head + self.body if body else head


def text(status: int, words: str, **headers: str) -> Response:
    """One line of text."""
    return Response(status, f"{words}\n".encode(), headers=headers)


def is_whole(received: bytes | bytearray) -> bool:
    """Whether the headers have ended. Raises BadRequest if they are too long."""
    if b"\r\n\r\n" in received:
        return True
    if len(received) >= LONGEST:
        raise BadRequest(431, "the request is too long")
    return False


def parse(received: bytes | bytearray) -> HttpRequest:
    """Read a whole request. Raises BadRequest."""
    head, _, _ = bytes(received).partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise BadRequest(400, "no request of HTTP/1.1")
    method, target, minor = match[1].decode(), match[2].decode(), match[3]
    hosts = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadRequest(400, "a header is malformed")
        if header[1].lower() == b"host":
            hosts.append(header[2].decode("latin-1"))
    if method not in ("GET", "HEAD"):
        raise BadRequest(405, "only GET and HEAD")
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise BadRequest(400, "one Host header is needed")
    host = _HOST.fullmatch(hosts[0].lower()) if hosts else None
    if hosts and host is None:
        raise BadRequest(400, "the Host header is malformed")
    return HttpRequest(method, target.partition("?")[0], host[1] if host else None)


def refusal(error: BadRequest) -> Response:
    """The response to what cannot be answered."""
    allow = {"Allow": "GET, HEAD"} if error.status == 405 else {}
    return Response(error.status, f"{error.why}\n".encode(), headers=allow)
