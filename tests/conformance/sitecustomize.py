"""RQ's tests know their server by its port; here it has another. In every process they start."""

import os
import socket

_look_up = socket.getaddrinfo


def _getaddrinfo(host, port, *args, **kwargs):
    port = os.environ.get("CONFORMANCE_PORT", port) if port == 6379 else port
    return _look_up(host, port, *args, **kwargs)


socket.getaddrinfo = _getaddrinfo
