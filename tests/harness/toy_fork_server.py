"""A fork server whose workers and recoveries are toys: no Redis, and they say what they see.

They append lines to the file `events` in the working directory. A worker leaves on QUIT, at once
or, when it serves the queue `busy`, not before there is a file `release`.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from loguru import logger

from resqued import logs, signals
from resqued.death import Death
from resqued.duties.boot import DutiesBoot
from resqued.forkserver import main as forkserver
from resqued.scoreboard import Phase
from resqued.steward.boot import StewardBoot
from resqued.worker.boot import Boot


def say(text: str) -> None:
    fd = os.open("events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def run(boot: Boot) -> int:
    number = boot.writer.slot
    told: list[int] = []
    signal.signal(signal.SIGQUIT, lambda signum, frame: told.append(signum))
    signal.signal(signal.SIGUSR1, lambda signum, frame: logs.reopen())
    for signum in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signum, lambda signum, frame: None)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= signals.HANDLED
    signals.unblock()
    if "raise" in boot.queues:
        raise RuntimeError("this worker cannot be")
    boot.hooks.demand("after_fork", worker=boot.worker())
    if "child" in boot.queues:
        child = subprocess.Popen(["sleep", "60"])
        say(f"child {child.pid}")
    boot.writer.update(phase=Phase.RUNNING if "busy" in boot.queues else Phase.IDLE, job_id="j")
    say(
        f"worker {number} pid={os.getpid()} frozen={gc.get_freeze_count() > 0} gc={gc.isenabled()}"
        f" held={held} trial={boot.trial}"
    )
    os.eventfd_write(boot.doorbell, 1)
    counted = 0
    while not (told and ("busy" not in boot.queues or Path("release").exists())):
        if len(told) > counted:
            counted = len(told)
            say(f"worker {number} told {counted}")
            logger.info("told to drain")
        time.sleep(0.01)
    boot.writer.update(phase=Phase.LEFT)
    say(f"worker {number} left")
    return 7


def recover(config: object, hooks: object, death: Death) -> str:
    say(f"recovery of {death.record.name} job={death.record.job_id} {death.reason}")
    if death.reason == "wait":
        while not Path("release").exists():
            time.sleep(0.01)
    if death.reason == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    say(f"recovered {death.record.name}")
    return "requeued" if death.interrupted else "failed"


def attend(boot: StewardBoot) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signals.unblock()
    say(f"steward {boot.serial}")
    while True:
        time.sleep(60)


def do_duties(boot: DutiesBoot) -> int:
    say(f"duties {os.getpid()}")
    return 0


if __name__ == "__main__":
    forkserver.main(sys.argv[2:], roles=forkserver.Roles(run, recover, attend, do_duties))
