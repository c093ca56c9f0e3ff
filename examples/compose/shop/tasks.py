"""What the workers do."""

import time


def pay(order):
    time.sleep(1)
    return f"order {order} is paid"
