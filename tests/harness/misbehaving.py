"""A plugin whose every hook misbehaves, once in a run, for `faults/test_misbehaviour.py`.

    resqued -p harness.misbehaving      with RESQUED_MISBEHAVIOUR=<one of KINDS>

RESQUED_MISBEHAVING is the folder in which a file for each hook says that it has. Where a hook that
fails ends a start, it waits for the file `up` there. RESQUED_MISBEHAVE_IN: only these hooks, by
name. RESQUED_SHORT_LIMITS: hooks have half a second.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resqued import hookimpl, hookspecs

HOOKS = [hook for hooks in hookspecs.LIFE_CYCLE.values() for hook in hooks]

WHEN_UP = {"add_options", "configure", "choose_queues", "before_load", "app_loaded", "duties"}
"""Hooks that end a start if they fail, or that have no limit there."""


class Broken(Exception):
    pass


def break_down() -> None:
    raise Broken("on purpose")


def exit_system() -> None:
    sys.exit("on purpose")


def interrupt() -> None:
    raise KeyboardInterrupt


def hang() -> None:
    while True:
        time.sleep(0.05)


def swallow() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def fork() -> None:
    os.fork()


def leave_thread() -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()


def change_handlers() -> None:
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signum, signal.SIG_IGN)


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def delete_directory() -> None:
    here = tempfile.mkdtemp()
    os.chdir(here)
    Path(here).rmdir()


def close_descriptors() -> None:
    os.closerange(3, 256)


def clear_environment() -> None:
    os.environ.clear()


def close_output() -> None:
    sys.stdout.close()
    with contextlib.suppress(OSError):
        os.close(1)


KINDS: dict[str, Callable[[], None]] = {
    "raise": break_down,
    "exit": exit_system,
    "interrupt": interrupt,
    "hang": hang,
    "swallow": swallow,
    "fork": fork,
    "thread": leave_thread,
    "handlers": change_handlers,
    "mask": block_signals,
    "directory": delete_directory,
    "descriptors": close_descriptors,
    "environment": clear_environment,
    "output": close_output,
}

_kind = KINDS.get(os.environ.get("RESQUED_MISBEHAVIOUR", ""))
_folder = Path(os.environ.get("RESQUED_MISBEHAVING", "."))
_only = os.environ.get("RESQUED_MISBEHAVE_IN", "").split() or HOOKS


def called(hook: str) -> None:
    """Misbehave, if it is the first time that this hook can."""
    (_folder / f"{hook}.called").touch()
    if _kind is None or hook not in _only:
        return
    if hook in WHEN_UP and not (_folder / "up").exists():
        return
    try:
        os.close(os.open(_folder / hook, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    _kind()


def _implementation(hook: str) -> Any:
    """One with the arguments that the specification has."""
    names = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    body = "return (yield)" if hook == "perform_job" else "return None"
    space: dict[str, Any] = {"called": called, "__name__": __name__}
    exec(f"def {hook}({names}):\n    called({hook!r})\n    {body}", space)
    return hookimpl(tryfirst=True, wrapper=hook == "perform_job")(space[hook])


for _hook in HOOKS:
    globals()[_hook] = _implementation(_hook)

if os.environ.get("RESQUED_SHORT_LIMITS"):
    from resqued.plugins import hooks, limits

    hooks.LIMIT, limits.LOOK = 0.5, 0.2  # type: ignore[misc]
    if "resqued.arbiter.containment" in sys.modules:
        from resqued.arbiter import call_watch

        call_watch.LOOK, call_watch.MASKED = 0.2, 1.0  # type: ignore[misc]
    if "resqued.forkserver.fork_server" in sys.modules:
        from resqued.forkserver import fork_server

        fork_server.LIMIT = 0.5  # type: ignore[misc]
