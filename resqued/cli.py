"""The command `resqued`: parse the command line, then start an arbiter or print what is asked for.

Imports are inside the functions: `--version` must not wait for what only a start needs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from resqued import daemon, kernel
from resqued.exits import ExitCode, InvalidSettings, Problem, refuse
from resqued.invocation import FORK_SERVER, Invocation, working_directory
from resqued.signal_table import TABLE, AtStart

if TYPE_CHECKING:
    from resqued.arbiter.launch import Launched
    from resqued.command.survey import Survey
    from resqued.config import Config
    from resqued.settings.command_line import CommandFlags, CommandLine
    from resqued.settings.loader import LoadedConfig

HANDOVER: Final = "RESQUED_HANDOVER"
"""Set for the new image of a re-exec, and for the `--check` before it."""

COMPLETE: Final = "_RESQUED_COMPLETE"
"""Set by the script of a shell that asks for words (`command.completion`)."""

_NO_START: Final = {
    "--check",
    "--completion",
    "--daemonize",
    "--help",
    "--json",
    "--list-hooks",
    "--list-plugins",
    "--new-plugin",
    "--print-config",
    "--ready",
    "--status",
    "--version",
}

_FOR_THE_LOOP: Final = frozenset(row.signum for row in TABLE if row.start is AtStart.HOLD)


@dataclass
class Origin:
    """What is known before the settings are read."""

    invocation: Invocation
    launched: Launched | None  # the first fork server
    left_open: dict[int, tuple[int, int]]  # descriptors that the caller left open


def main() -> int:
    """The console script. Returns the exit status."""
    if sys.argv[1:2] == [FORK_SERVER]:
        from resqued.forkserver import main

        main.main(sys.argv[2:])
    if HANDOVER not in os.environ and (reason := kernel.missing()):
        print(f"resqued: error: {reason}", file=sys.stderr)
        return ExitCode.NO_SYSTEM
    left_open = daemon.inherited()
    _open_standard_streams()
    argv = sys.argv[1:]
    invocation = Invocation.of_this_process(working_directory())
    launched = _launch_early(argv, invocation)
    try:
        code = _main(argv, Origin(invocation, launched, left_open))
    finally:
        if launched is not None:
            launched.abandon()  # nothing, if an arbiter has taken it
    _bound_exit(code)
    return code


def _bound_exit(code: int) -> None:
    """Leave in time whatever plugins have started: also after a refused start, and a listing."""
    threading = sys.modules.get("threading")
    if threading is not None and any(
        not each.daemon and each is not threading.main_thread() for each in threading.enumerate()
    ):
        from resqued.arbiter import final_exit

        final_exit.bound_exit(code)


def _launch_early(argv: list[str], invocation: Invocation) -> Launched | None:
    """Start the first fork server, which needs longer to come up than the arbiter.

    Only if this is surely a start, and not of a daemon, whose child it would not be.
    """
    short = "".join(word for word in argv if word.startswith("-") and not word.startswith("--"))
    words = {word.partition("=")[0] for word in argv}
    if words & _NO_START or set("Dh") & set(short):
        return None
    if not {HANDOVER, COMPLETE, "RESQUED_DAEMONIZE"}.isdisjoint(os.environ):
        return None
    from resqued.arbiter import launch

    _hold_back()  # else a signal that comes during the spawn would end this process
    return launch.launch_first(invocation)


def _main(argv: list[str], origin: Origin) -> int:
    from resqued.settings.command_line import parse_early

    line = parse_early(argv)
    commands = line.commands
    if commands.version:
        from resqued import __version__

        return _written(lambda: print(f"resqued {__version__}"))
    from resqued.logs.redaction import know, know_environment

    know_environment(os.environ)
    know(*(word for word in argv if "://" in word))
    if any("://" in word and "@" in word for word in argv):
        from resqued import titles

        titles.command("check" if commands.check else "start")
    if commands.completion is not None or COMPLETE in os.environ:
        return _complete(line, origin)
    if not (_only_shows(commands) or commands.new_plugin is not None or commands.check):
        return _answer(line, origin)
    from resqued.command.standard_output import written

    if commands.check and not (commands.status or commands.help):
        from resqued.command import child_process

        return child_process.run(lambda: written(lambda: _answer(line, origin)))
    return written(lambda: _answer(line, origin))


def _complete(line: CommandLine, origin: Origin) -> int:
    """Print the script for a shell, or, to that script, the words that complete what is typed."""
    from resqued.command import completion, standard_output, survey
    from resqued.settings.command_line import SHELLS, CommandLine, program

    shell = line.commands.completion
    if shell is not None and shell not in SHELLS:
        known = ", ".join(SHELLS)
        _say("error", [f"--completion: {shell!r} is no shell that is known here: {known}"])
        return ExitCode.USAGE
    with standard_output.kept_clean():
        found = survey.survey(CommandLine(), os.environ, origin.invocation.directory)
    command = program(found.settings)
    if shell is not None:
        return _written(lambda: print(completion.script(command, "resqued", shell)))
    return _written(lambda: completion.answer(command, "resqued", os.environ))


def _written(show: Callable[[], None]) -> int:
    """The exit status of something that only prints."""
    from resqued.command import standard_output

    def work() -> int:
        show()
        return ExitCode.OK

    return standard_output.written(work)


def _answer(line: CommandLine, origin: Origin) -> int:
    """Do what is asked for, or print what is wrong with it. Returns the exit status."""
    try:
        code = _act(line, origin)
        sys.stdout.flush()
        if _only_shows(line.commands):
            from resqued.command import standard_output

            standard_output.close()
        return code
    except InvalidSettings as refused:
        _say("error", refused.errors, refused.details if line.values.get("verbose") else ())
        if HANDOVER in os.environ and not line.commands.check:
            _log_refusal(refused.errors)
        return refused.exit_code
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT


def _only_shows(commands: CommandFlags) -> bool:
    """Whether its standard output may be for a program that reads it."""
    listing = commands.list_hooks is not None or commands.list_plugins
    return listing or commands.status or commands.help or commands.print_config


def _hold_back() -> None:
    """Block the signals that the arbiter's loop obeys, and that would end this process before it.

    The loop unblocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_LOOP)


def _open_standard_streams() -> None:
    """Open /dev/null for those that the caller has closed, so that no other file gets 0, 1 or 2."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:  # as Python sets a closed one
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _act(line: CommandLine, origin: Origin) -> int:
    from resqued.command import standard_output, survey
    from resqued.plugins.hooks import LIMIT
    from resqued.settings.loader import Loader

    environ = {name: value for name, value in os.environ.items() if name != HANDOVER}
    directory = origin.invocation.directory
    commands = line.commands
    _refuse_what_does_not_end()
    if commands.status:
        from resqued.status import show

        with standard_output.kept_clean():
            pid_file, wrong = survey.pid_file(line, environ, directory)
        _say("warning", wrong)
        return show.main(pid_file, as_json=commands.json, ready=commands.ready)
    if commands.new_plugin is not None:
        from resqued.command import new_plugin

        return new_plugin.run(commands.new_plugin, line.argv)
    if commands.ready:
        refuse([Problem("--ready goes with --status", ExitCode.USAGE)])
    if commands.help or commands.list_hooks is not None or commands.list_plugins:
        with standard_output.kept_clean():
            found = survey.survey(line, environ, directory)
        return _show(found, commands)
    if commands.print_config:
        from resqued.command import print_config

        loader = Loader(line, environ, directory)
        with standard_output.kept_clean():
            loaded = loader.load()
        print(print_config.text(loaded, as_json=commands.json))
        return ExitCode.OK
    if commands.json:
        text = "--json goes with --status, --print-config, --list-hooks or --list-plugins"
        refuse([Problem(text, ExitCode.USAGE)])
    if commands.check:
        from resqued.command import check

        check.prepare()
        return check.run(Loader(line, environ, directory).load(), os.environ)
    _hold_back()
    _silence_what_did_not_end()
    renewed = HANDOVER in os.environ  # it has workers already, and must not hang
    loaded = Loader(line, environ, directory, limit=LIMIT if renewed else None).load()

    def reload(running: Config) -> LoadedConfig:
        installed = loaded.plugins.installed
        again = Loader(line, environ, directory, running=running, limit=LIMIT, installed=installed)
        return again.load()

    return _start(loaded, reload, origin)


def _refuse_what_does_not_end() -> None:
    """Until the loop runs: end a start, or another command, in which a hook cannot be ended."""
    from resqued.plugins.limits import Call, limits

    limits.begin()

    def refuse_start(call: Call) -> None:
        text = f"{call.what} cannot be ended"
        _say("error", [text])
        if HANDOVER in os.environ:
            _log_refusal([text])
        os._exit(ExitCode.CONFIG)

    limits.resist = refuse_start


def _silence_what_did_not_end() -> None:
    """In the new image of an arbiter, do not call the hooks for which the old one was replaced."""
    from resqued.arbiter import reexec
    from resqued.plugins.hooks import silenced

    silenced.update(reexec.silenced(os.environ))


def _show(survey: Survey, commands: CommandFlags) -> int:
    """Print the help or a listing, which work when plugins or the config file do not."""
    from resqued.command import listings
    from resqued.logs.redaction import redact
    from resqued.settings.command_line import help_page

    if commands.help:
        print(redact(help_page(survey.settings)))
    if commands.list_hooks is not None:
        try:
            page = listings.list_hooks(survey.plugins, commands.list_hooks or None, commands.json)
            print(redact(page))
        except listings.NoSuchHook as error:
            _say("error", [str(error)])
            return ExitCode.USAGE
    if commands.list_plugins:
        print(redact(listings.list_plugins(survey.plugins, commands.json)))
    _say("warning", survey.errors)
    return ExitCode.OK


def _start(loaded: LoadedConfig, reload: Callable[[Config], LoadedConfig], origin: Origin) -> int:
    """Run an arbiter, or go on as the new image of one after a re-exec."""
    import resqued
    from resqued import logs
    from resqued.arbiter import reexec
    from resqued.arbiter.arbiter import ArbiterLoop
    from resqued.command.banner import banner
    from resqued.logs import LogError, LogEvent

    resqued.load()
    config = loaded.config
    launched = origin.launched
    in_background = config.daemonize and HANDOVER not in os.environ
    if in_background:
        if launched is not None:  # the config file has set daemonize
            launched.abandon()
            launched = None
        if config.log_file is None and config.stderr_path is None:
            _say("warning", ["-D without --log-file: the log goes nowhere"])
        announce = daemon.daemonize(origin.left_open.items()).announce
    else:
        logged = HANDOVER in os.environ or (config.log_file is None and config.stderr_path is None)
        log = config.log_file or config.stderr_path
        announce = daemon.Console(logged=logged, log=log).announce
    try:
        logs.set_up(config, "arbiter", reexec.log_descriptor(os.environ))
        text, fields = banner(config)
        logs.info(text, LogEvent.ARBITER_STARTED, **fields)
        for warning in loaded.warnings:
            logs.warning(warning, LogEvent.SETTING_WARNING)
        logs.info(loaded.plugins.banner(), LogEvent.PLUGINS_LOADED)
        arbiter = ArbiterLoop(loaded, reload, announce, launched, invocation=origin.invocation)
        return arbiter.run()
    except LogError as error:
        if in_background:
            announce(error.exit_code, f"resqued: error: {error}")
        else:
            _say("error", [str(error)])
        return error.exit_code
    except Exception as error:  # a defect; the log has its traceback
        logs.exception("the start failed", LogEvent.DEFECT)
        announce(ExitCode.GAVE_UP, f"resqued: error: {type(error).__name__}: {error}")
        return ExitCode.GAVE_UP


def _say(kind: str, texts: Iterable[str], details: Iterable[str] = ()) -> None:
    from resqued.logs.redaction import redact

    for text in (*details, *(f"resqued: {kind}: {text}" for text in texts)):
        print(redact(text), file=sys.stderr, flush=True)


def _log_refusal(errors: Iterable[str]) -> None:
    """Write errors to the log that the image before the re-exec has left open."""
    from resqued.arbiter.reexec import log_descriptor
    from resqued.logs.redaction import redact

    log = log_descriptor(os.environ)
    if log is not None and log > 2:
        for error in errors:
            os.write(log, f"{redact(f'resqued: error: {error}')}\n".encode(errors="replace"))
