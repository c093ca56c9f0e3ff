"""What a child a job costs at least: forks that run nothing, by a process like a worker's.

Prints for `alone`, one after another, and for `ahead`, where the next child is forked while the
last one runs: how many a second, and the CPU of each in microseconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import time
from collections.abc import Callable


def alone() -> Callable[[], None]:
    def one() -> None:
        answer, said = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(said, b"x")
            os._exit(0)
        os.close(said)
        os.read(answer, 1)
        os.close(answer)
        os.waitpid(child, 0)

    return one


def ahead() -> Callable[[], None]:
    def spare() -> tuple[int, int]:
        order, told = os.pipe()
        answer, said = os.pipe()
        if os.fork() == 0:
            os.close(told)  # its parent's end is then the only one, and so it ends with its parent
            if os.read(order, 1):
                os.write(said, b"x")
            os._exit(0)
        os.close(order)
        os.close(said)
        return told, answer

    following = [spare()]

    def one() -> None:
        told, answer = following.pop()
        os.write(told, b"x")
        following.append(spare())
        os.read(answer, 1)
        os.close(told)
        os.close(answer)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    return one


def measured(one: Callable[[], None], count: int) -> tuple[float, float]:
    for _ in range(count // 10):
        one()
    began, spent = time.monotonic(), sum(os.times()[:4])
    for _ in range(count):
        one()
    return count / (time.monotonic() - began), (sum(os.times()[:4]) - spent) / count * 1e6


if __name__ == "__main__":
    app, count = sys.argv[1:]
    importlib.import_module(app)
    importlib.import_module("rq")
    gc.freeze()
    if os.fork() == 0:  # as a worker is forked from a fork server
        for way in (alone, ahead):
            print(way.__name__, *measured(way(), int(count)), flush=True)
        os._exit(0)
    os.wait()
