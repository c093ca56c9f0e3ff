"""TLS on the one side and none on the other: errors that say anything but that."""

from __future__ import annotations

import socket
import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

from resqued.broker.refusals import Diagnosis

_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # TLS: an alert, a handshake
_REPLIES: Final = (b"+PONG", b"-")


def diagnose(url: str, error: BaseException, patience: float) -> Diagnosis | None:
    """Whether a server cannot be reached since one side speaks TLS and the other does not.

    Asks the server. None: that is not it. url: of the server. patience: seconds that it may take
    to connect, and as many to answer.
    """
    text = str(error)
    try:
        address = _address(url)
        if address is None:
            return None
        if url.startswith("rediss:"):
            if "CERTIFICATE_VERIFY_FAILED" in text:
                return _logged(
                    f"{text}; name the authority that has signed the server's certificate:"
                    " ?ssl_ca_certs=FILE"
                )
            if _answers_plainly(address, patience):
                return _logged("this port does not speak TLS; write redis:// instead of rediss://")
        elif _is_silence(error) and _answers_in_tls(address, patience):
            return _logged("this port speaks TLS; write rediss:// instead of redis://")
    except (OSError, ValueError):
        return None  # nobody there, which is what the error says
    return None


def _logged(text: str) -> Diagnosis:
    return Diagnosis("ERROR", f"cannot be talked to: {text}", for_a_person=True)


def _address(url: str) -> tuple[str, int] | None:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        return None
    return unquote(parts.hostname or "localhost"), parts.port or 6379


def _is_silence(error: BaseException) -> bool:
    """It took the connection, and no reply came, or none of Redis."""
    return not any(word in str(error) for word in ("refused", "not known", "resolution"))


def _answers_plainly(address: tuple[str, int], patience: float) -> bool:
    with socket.create_connection(address, patience) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith(_REPLIES)


def _answers_in_tls(address: tuple[str, int], patience: float) -> bool:
    """Whether a ClientHello is answered with a record of TLS, if only an alert (RFC 8446, 5.1)."""
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
