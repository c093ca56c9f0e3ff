"""Detect that one side speaks TLS and the other does not, that the server refuses the client's
certificate, or that a file which the URL names is of no use: the errors of that do not say so."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from resqued.broker.refusals import Diagnosis

_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # TLS: an alert, a handshake
_REPLIES: Final = (b"+PONG", b"-")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def diagnose(url: str, error: BaseException, patience: float) -> Diagnosis | None:
    """Whether the server cannot be reached because only one side speaks TLS, or for a certificate;
    None: it is something else. Connects to the server. url: of the server. patience: seconds to
    connect, and as many to answer."""
    text = str(error)
    if url.startswith("rediss") and (useless := _of_files(url)):
        return _diagnosis(useless)
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
            alert = _alert(url, address, patience) if _is_silence(error) else ""
            if alert:
                return _of_alert(url, alert)
            if _answers_plainly(address, patience):
                return _diagnosis(
                    "this port does not speak TLS; write redis:// instead of rediss://"
                )
        elif _is_silence(error) and _answers_in_tls(address, patience):
            return _diagnosis("this port speaks TLS; write rediss:// instead of redis://")
    except (OSError, ValueError):
        return None  # the server cannot be reached, as the error says
    return None


def _of_files(url: str) -> str:
    """What is wrong with the files that a URL names, those for the sentinels too; "": nothing."""
    options = _options(url)
    for prefix in ("", "sentinel_"):
        authority, certificate, key = (options.get(f"{prefix}{name}") for name in _FILES)
        for name in _FILES:
            if (file := options.get(f"{prefix}{name}")) is None:
                continue
            try:
                Path(file).open("rb").close()
            except OSError as error:
                return f"{prefix}{name}: {error.strerror}: {file!r}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if authority is not None:
            try:
                context.load_verify_locations(authority)
            except ssl.SSLError as error:
                return f"{prefix}ssl_ca_certs: {authority!r} has no certificate: {error.reason}"
        if certificate is None:
            continue
        try:
            _present(context, options, prefix)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                return f"the key {key!r} is not that of the certificate {certificate!r}"
            if key is None:
                return (
                    f"{certificate!r} has no certificate with its key; name the key's file:"
                    f" &{prefix}ssl_keyfile=FILE"
                )
            return f"{certificate!r} and {key!r} are no certificate and its key: {error.reason}"
    return ""


def _of_alert(url: str, alert: str) -> Diagnosis:
    """alert: with which the server has ended the connection."""
    certificate = _options(url).get("ssl_certfile")
    if "certificate" not in alert and alert != "unknown ca":
        return _diagnosis(f"the server ends the TLS connection: {alert}")
    if certificate is None:
        return _diagnosis(
            f"{alert}: the server accepts only clients with a certificate; name yours:"
            " ?ssl_certfile=FILE&ssl_keyfile=FILE"
        )
    return _diagnosis(f"{alert}: the server refuses the client's certificate {certificate!r}")


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


def _alert(url: str, address: tuple[str, int], patience: float) -> str:
    """The alert with which a server answers a handshake, such as "certificate required"; "" when
    it accepts it. With TLS 1.3 it comes after the client's handshake has ended (RFC 8446, 4.4.2.4):
    a client that has written meanwhile may find the connection closed and never read the alert."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "ssl_certfile" in (options := _options(url)):
        _present(context, options)
    try:
        with (
            socket.create_connection(address, patience) as plain,
            context.wrap_socket(plain) as sock,
        ):
            sock.recv(1)
    except ssl.SSLError as error:
        _, is_alert, name = (error.reason or "").rpartition("ALERT_")
        return name.lower().replace("_", " ") if is_alert else ""
    except TimeoutError:  # it waits for a command, or for the rest of a line, if it is no TLS
        return ""
    return ""


def _options(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(url.partition("?")[2]).items()}


def _present(context: ssl.SSLContext, options: Mapping[str, str], prefix: str = "") -> None:
    """Have the client's certificate that a URL's options name presented. Raises ssl.SSLError."""
    certificate, key, password = (
        options.get(f"{prefix}{name}") for name in ("ssl_certfile", "ssl_keyfile", "ssl_password")
    )
    assert certificate is not None
    # Without a password OpenSSL would ask for one at the terminal.
    context.load_cert_chain(certificate, key, password or "")
