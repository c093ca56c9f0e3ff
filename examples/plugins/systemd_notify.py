"""Tell systemd of each state, and that the loop turns: Type=notify-reload, WatchdogSec=30.

ExecStart=/srv/app/.venv/bin/resqued -p /srv/app/systemd_notify.py
"""

import os
import socket
import time

from resqued import hookimpl


@hookimpl
def arbiter_ready(arbiter, error):  # after a reload that failed too: the old release is there
    notify(f"READY=1\nSTATUS={error or f'{len(arbiter.workers)} workers'}")


@hookimpl
def tick(arbiter):
    notify("WATCHDOG=1")


@hookimpl
def signal_received(arbiter, signame):
    if signame == "HUP":
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


@hookimpl
def arbiter_stopping(arbiter, dropped):
    if not dropped:
        notify("STOPPING=1")


def notify(text):
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.sendto(text.encode(), address.replace("@", "\0", 1))
