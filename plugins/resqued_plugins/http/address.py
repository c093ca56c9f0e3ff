"""The address of `--http`: reading it, and listening there."""

from __future__ import annotations

import ipaddress
import socket


def read(text: str) -> str:
    """`HOST:PORT`, `:PORT` for all interfaces, `[::1]:PORT`; port 0 is any free one.

    Raises ValueError.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("write HOST:PORT, such as 127.0.0.1:9181, or :9181 for all interfaces")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("write an IPv6 address in brackets: [::1]:9181")
    if any(char.isspace() or not char.isprintable() for char in host):
        raise ValueError("its host has blanks or control characters in it")
    return text


def listen(text: str) -> socket.socket:
    """A listening socket, not blocking and closed on exec. Raises OSError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if host:
        found = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        listener = socket.create_server(place, family=family, backlog=128)
    elif socket.has_dualstack_ipv6():
        everywhere = ("::", int(port))
        listener = socket.create_server(
            everywhere, family=socket.AF_INET6, backlog=128, dualstack_ipv6=True
        )
    else:
        listener = socket.create_server(("0.0.0.0", int(port)), backlog=128)
    listener.setblocking(False)
    return listener


def shown(listener: socket.socket) -> str:
    """Where it listens: `127.0.0.1:9181`, `[::1]:9181`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    host = listener.getsockname()[0].partition("%")[0]
    return ipaddress.ip_address(host).is_loopback
