"""An application whose jobs end in every bad way."""

import os
import signal
import time


def charge(order):
    return f"order {order} paid"


def fails(order):
    raise ValueError(f"order {order} cannot be paid")


def takes_long(order):
    time.sleep(60)


def is_killed(order):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
