"""Detect that one side speaks TLS and the other does not: the errors of that do not say so."""

from __future__ import annotations

import socket
import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

from resqued.broker.refusals import Diagnosis

_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # TLS: an alert, a handshake
_REPLIES: Final = (b"+PONG", b"-")


def diagnose(url: str, error: BaseException, patience: float) -> Diagnosis | None:
    """Whether the server cannot be reached because only one side speaks TLS; None: it is something
    else. Connects to the server. url: of the server. patience: seconds to connect, and as many to
    answer."""
    text = str(error)
    try:
        address = _address(url)
        if address is None:
            return None
        if url.startswith("rediss:"):
            if "CERTIFICATE_VERIFY_FAILED" in text:
                return _diagnosis(
                    f"{text}; name the authority that has signed the server's certificate:"
                    " ?ssl_ca_certs=FILE"
                )
            if _answers_plainly(address, patience):
                return _diagnosis(
                    "this port does not speak TLS; write redis:// instead of rediss://"
                )
        elif _is_silence(error) and _answers_in_tls(address, patience):
            return _diagnosis("this port speaks TLS; write rediss:// instead of redis://")
    except (OSError, ValueError):
        return None  # the server cannot be reached, as the error says
    return None


def _diagnosis(text: str) -> Diagnosis:
    return Diagnosis("ERROR", f"cannot be used: {text}", needs_person=True)


def _address(url: str) -> tuple[str, int] | None:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        return None
    return unquote(parts.hostname or "localhost"), parts.port or 6379


def _is_silence(error: BaseException) -> bool:
    """Whether the server was connected to, but no reply, or none of Redis, came."""
    return not any(word in str(error) for word in ("refused", "not known", "resolution"))


def _answers_plainly(address: tuple[str, int], patience: float) -> bool:
    with socket.create_connection(address, patience) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith(_REPLIES)


def _answers_in_tls(address: tuple[str, int], patience: float) -> bool:
    """Whether a ClientHello is answered with a TLS record, if only an alert (RFC 8446, 5.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing)
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        with socket.create_connection(address, patience) as sock:
            sock.sendall(outgoing.read())
            return sock.recv(16).startswith(_RECORDS)
    return False
