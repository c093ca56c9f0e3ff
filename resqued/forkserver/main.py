"""The fork server's start: the command `resqued --fork-server ...`, which the arbiter execs.

There is one per generation, a new interpreter, so that it sees the code on disk. It sends Hello,
imports rq and redis while the arbiter starts, waits for the settings, loads the application, and
then runs the loop of `fork_server`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final, NoReturn

from resqued import linux, logs, messages, originals, signals, titles
from resqued.channel import Channel, Closed
from resqued.config import Config
from resqued.duties.boot import DutiesBoot
from resqued.exits import ExitCode
from resqued.forkserver import children, fork_hazards, huge_pages, preload
from resqued.forkserver.duties import DutiesRun
from resqued.forkserver.fork_server import WATCHED, ForkServer, Recovery
from resqued.forkserver.notes import Notes
from resqued.forkserver.process_exit import FAILED, ProcessExit, until_stopped
from resqued.forkserver.stewards import StewardRun
from resqued.forkserver.worker_start import Run
from resqued.logs import LogEvent
from resqued.messages import Inherited
from resqued.queue_words import forks
from resqued.scoreboard import VERSION
from resqued.signal_table import InForkServer, row_of

_LAST_WORDS: Final = 5.0  # seconds for the arbiter to read the last messages


@dataclass(frozen=True)
class Roles:
    """What the children of a fork server do: a worker, a recovery, a steward, duties."""

    run: Run
    recover: Recovery
    steward: StewardRun
    duties: DutiesRun


def main(words: list[str], *, roles: Roles | None = None) -> NoReturn:
    """The whole life of a fork server. words: `Inherited.as_words()`.

    roles: what its children do, for tests; else `resqued.worker` and `resqued.steward`.
    It ends as `process_exit` describes, together with what the application has started here.
    """
    _be_main()
    gc.disable()  # until the application is loaded and frozen; children enable it again
    given = Inherited.from_words(words)
    linux.set_parent_death_signal(signal.SIGKILL)  # while there is nothing to finish
    if os.getppid() != given.arbiter:
        os._exit(0)
    for signum in WATCHED:
        leave = row_of(signum).fork_server is InForkServer.DRAIN
        signal.signal(signum, _leave if leave else children.ignore)
    signals.unblock()
    _close_leftovers(given)
    channel = Channel(socket.socket(fileno=given.channel))
    channel.send(messages.Hello(VERSION, os.getpid()))
    code = ExitCode.OK
    shutdown = ProcessExit(
        Config.exit_timeout,
        hurried=until_stopped(given.scoreboard),
        notes=Notes(given.dumps),
        stacks=given.dumps,
        parent=True,
    )
    try:
        _serve(given, channel, roles, shutdown)
    except preload.CannotLoad as error:
        reason, trace = logs.redact(error.reason), logs.redact(error.trace)
        channel.send(messages.LoadFailed(reason, trace).cut())
        code = ExitCode.CONFIG
        shutdown.hurried = until_stopped(given.scoreboard, FAILED)
    except Closed:
        pass  # the arbiter is gone, or has discarded this generation
    except BaseException:
        logs.exception(
            "the fork server failed; its workers finish their jobs and leave",
            LogEvent.FORK_SERVER_NOTICE,
        )
        code = ExitCode.GAVE_UP
    _flush(channel)
    shutdown.leave(code)


def _be_main() -> None:
    """Replace the main module by an empty one. What `multiprocessing` spawns runs the main module
    again, which may be a script that starts resqued."""
    main_module = ModuleType("__main__")
    main_module.__file__ = __file__
    main_module.__spec__ = ModuleSpec("resqued.forkserver.__main__", None)  # spawn leaves it out
    _kept.append(sys.modules["__main__"])  # its globals are in use by the calling frame
    sys.modules["__main__"] = main_module


_kept: Final[list[ModuleType]] = []


def _flush(channel: Channel) -> None:
    poll = originals.poll()
    poll.register(channel, select.POLLOUT)
    deadline = time.monotonic() + _LAST_WORDS
    while not channel.flush() and time.monotonic() < deadline:
        poll.poll(100)


def _serve(given: Inherited, channel: Channel, roles: Roles | None, shutdown: ProcessExit) -> None:
    titles.fork_server(given.generation, note="loading")
    default = roles is None
    if roles is None:
        roles = _import_roles()
    begin = _begin(channel)
    if begin.protocol != VERSION:
        raise preload.CannotLoad(
            f"the code on disk speaks protocol {VERSION}, the running arbiter {begin.protocol};"
            " send USR2 to the arbiter, which upgrades it in place"
        )
    config = Config.from_plain(begin.settings)
    shutdown.seconds = config.exit_timeout
    try:
        logs.set_up(config, f"forkserver gen={given.generation} pid={os.getpid()}", given.log)
        os.chdir(given.cwd)
    except (logs.LogError, OSError) as error:
        raise preload.CannotLoad(str(error)) from error
    before = fork_hazards.sockets()
    loaded = preload.load(
        config,
        given.generation,
        given.dumps,
        on_call=lambda what: channel.send(messages.Calling(what)),
        reload=begin.reload,
    )
    if loaded.duties:  # now, since the code on disk may be another version when they are forked
        importlib.import_module("resqued.duties.main")
    if default and config.preload_app:  # else only workers import modules
        _check_classes(config)
    try:
        server = ForkServer(
            given,
            channel,
            config,
            loaded.plugins,
            identity=begin.identity,
            run=roles.run,
            recover=roles.recover,
            steward=roles.steward,
            duties=loaded.duties,
            do_duties=roles.duties,
            notes=shutdown.notes,
        )
    except ValueError as error:
        raise preload.CannotLoad(f"{error}; send USR2 to the arbiter") from error
    preload.settle(before)
    if forks(config.isolation):
        huge_pages.collapse()
    titles.fork_server(given.generation, config.require if config.preload_app else ())
    server.serve()


def _check_classes(config: Config) -> None:
    """Import the classes that the settings name, so that a wrong name fails here and not in
    workers."""
    from resqued.worker.classes.lookup import check_classes

    if wrong := check_classes(config):
        raise preload.CannotLoad("\n".join(wrong))


def _import_roles() -> Roles:
    """Import rq, redis and the modules on them, which takes longest, while the arbiter starts."""
    try:
        worker = importlib.import_module("resqued.worker.main")
        worker.warm_up()
        run: Run = worker.run
        recover: Recovery = importlib.import_module("resqued.worker.recovery").recover
        steward: StewardRun = importlib.import_module("resqued.steward.main").run
    except Exception as error:
        raise preload.CannotLoad(f"rq cannot be imported: {error}") from error
    return Roles(run, recover, steward, _do_duties)


def _do_duties(boot: DutiesBoot) -> int:
    """Imported only where there are duties."""
    from resqued.duties.main import run

    return run(boot)


def _begin(channel: Channel) -> messages.Begin:
    """Wait for the settings. Raises Closed when the arbiter is gone."""
    poll = originals.poll()
    poll.register(channel, select.POLLIN)
    while True:
        poll.poll()
        match channel.receive():
            case messages.Begin() as begin:
                return begin
            case messages.Retire():
                raise Closed


def _leave(signum: int, frame: FrameType | None) -> None:
    os._exit(messages.TOLD_TO_LEAVE)


def _close_leftovers(given: Inherited) -> None:
    """Close descriptors that the arbiter has inherited from its own parent.

    What is close-on-exec was opened since, by this interpreter, and stays.
    """
    for entry in list(Path("/proc/self/fd").iterdir()):
        fd = int(entry.name)
        if fd <= 2:
            continue
        with contextlib.suppress(OSError):  # the listing's own descriptor
            if fd in given.descriptors:
                os.set_inheritable(fd, False)
            elif os.get_inheritable(fd):
                os.close(fd)
