"""From the command line, the environment, the config file and plugins to one frozen Config.

Runs in the arbiter, at the start and on each reload, and under `--check` and the listings.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from resqued.config import Config
from resqued.exits import ExitCode
from resqued.logs.redaction import know
from resqued.namesakes import put_first, put_last
from resqued.ownership import Untrusted, check_writers
from resqued.plan import make_plan
from resqued.plugins.finding import Candidate
from resqued.plugins.hooks import LIMIT, HookFailed, Hooks
from resqued.plugins.loading import LOADED, PluginError, Plugins, load_plugins
from resqued.settings import configfile, flags, rq, sources
from resqued.settings.bounding import TookTooLong, bounded
from resqued.settings.configfile import BadFile, ConfigFile
from resqued.settings.flags import Flags
from resqued.settings.options import Declared, Draft
from resqued.settings.refusal import Problem, Refused, refuse
from resqued.settings.sources import Rank, Reading, Sources, Value
from resqued.settings.table import SETTINGS
from resqued.verdicts import ConfigError

__all__ = ["LIMIT", "Loaded", "Refused", "load"]

OURS: Final = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Loaded:
    """What a start or a reload has found."""

    config: Config
    plugins: Plugins
    warnings: tuple[str, ...]
    directory: str  # the working directory, by the name its user gave it
    redis_from: str = ""  # the plugin that has set the URL, and may start the server


def load(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    directory: str,
    running: Config | None = None,
    limit: float | None = None,
    installed: Sequence[Candidate] = (),
) -> Loaded:
    """Read everything, load the plugins, ask `configure`, freeze.

    argv: without the program's name. directory: becomes the working directory; relative paths
    are below it. running: the settings in force, on a reload, when the arbiter plans itself.
    limit: seconds that the file, the plugins and each hook may take; needs the main thread and
    SIGALRM. installed: the plugins that were installed at the start, should they be gone.
    Raises Refused.
    """
    enter(directory)
    return Loading(argv, environ, directory, limit, installed).run(running)


def enter(directory: str) -> None:
    """Work in this directory. Raises Refused.

    Nothing is imported from it before the settings say so: a config file that may be run, or the
    name of a plugin; at the latest it is on the path when the settings are in force.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        text = f"{directory}: {error.strerror}; it is the working directory"
        raise Refused([Problem(text)]) from None


class Loading:
    """The work of one `load`, step by step. What is wrong collects in `problems`."""

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        directory: str,
        limit: float | None = None,
        installed: Sequence[Candidate] = (),
    ) -> None:
        self.installed = installed
        self.argv = argv
        self.environ = environ
        self.directory = directory
        self.limit = limit
        self.problems: list[Problem] = []
        self.declared = Declared()
        self.module = ""
        """RQ's settings module, when the flag -c names one."""

    def run(self, running: Config | None) -> Loaded:
        """All steps. Raises Refused."""
        known = self.sources(running)
        plugins = self.plugins(known)
        hooks = plugins.hooks(self.limit)
        self.add_options(hooks, plugins, known)
        whole = not self.problems  # else a stranger may be a setting of what could not be loaded
        if whole:
            given = self.flags(absent(plugins, known)).given
            known = replace(known, flags=self.without_module(given))
        reading = sources.read_all(self.declared.settings, known)
        for setting in self.declared.absent.values():
            reading.note_absent(setting, known)
        for name, setting in self.declared.settings.items():
            if setting.secret:
                know(str(reading.values[name].value or ""))
        if whole:
            settings = {**self.declared.absent, **self.declared.settings}
            sources.find_strangers(reading, settings, known, absent(plugins, known))
        sources.check_together(reading)
        self.refuse(reading)
        if known.file:
            reading.values["config"] = Value(known.file.path)
        self.settle(reading)
        self.configure(hooks, reading)
        self.settle(reading)
        sources.check_together(reading)
        self.check_state(reading)
        config = self.freeze(reading)
        if running is not None:
            config = self.keep_fixed(config, running, reading)
        self.refuse(reading)
        put_last(self.directory)
        if running is None:
            self.check_start(hooks, config, reading)
            self.refuse(reading)
        warnings = (
            *known.ambient.warnings,
            *known.module.warnings,
            *plugins.warnings,
            *reading.warnings,
            *_found_here(config),
        )
        url = reading.values["redis"]
        plugin = url.source if url.rank is Rank.HOOK else ""
        return Loaded(config, plugins, warnings, self.directory, plugin)

    def refuse(self, reading: Reading | None = None) -> None:
        refuse([*self.problems, *(reading.problems if reading else ())])

    def sources(self, running: Config | None = None) -> Sources:
        """Flags, as far as they are known yet, environment, and the executed config file."""
        known = self.rq(Sources(flags.glance(self.argv).given, self.environ))
        named = read_early("config", known)
        if named is None and running is not None:
            named = running.config  # taken without asking then, it may not be missing now
        return replace(known, file=self.file(named))

    def rq(self, known: Sources) -> Sources:
        """The same with what RQ's settings module, and REDIS_* in the environment, say."""
        ambient = rq.from_environment(self.environ)
        known = replace(known, flags=self.without_module(known.flags), ambient=ambient)
        name = self.module or self.environ.get(rq.VARIABLE, "")
        if not name:
            return known
        self.extend_path(known)
        put_last(self.directory)
        try:
            with self.bounded(f"the import of {name}"):
                return replace(known, module=rq.from_module(name))
        except rq.BadModule as error:
            self.problems.append(Problem(str(error), detail=error.detail))
            return known

    def without_module(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Flags without `-c MODULE`, RQ's way to name its settings module; it is remembered."""
        named = given.get("config")
        if not named or not rq.names_module(named, self.directory):
            return given
        self.module = named
        return {name: value for name, value in given.items() if name != "config"}

    def extend_path(self, known: Sources) -> None:
        put_first(map(self.absolute, read_early("path", known)))

    def absolute(self, path: str) -> str:
        # not resolve(): a symlink that a deployment swings keeps its name
        try:
            return os.path.normpath(Path(self.directory, Path(path).expanduser()))
        except RuntimeError:  # of a user who has no home, or who does not exist
            self.problems.append(Problem(f"{path}: there is no such home directory"))
            return path

    def file(self, named: str | None) -> ConfigFile | None:
        """Execute the config file that is named, or that is there."""
        path = self.absolute(named or configfile.FILE_NAME)
        if not named and not os.path.lexists(path):
            return None
        try:
            with self.bounded(Path(path).name):
                return configfile.execute(path, lambda: put_last(self.directory))
        except BadFile as error:
            detail = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
            detail = configfile.without_passwords(detail)
            self.problems.append(Problem(str(error), error.exit_code, detail))
            return None

    def plugins(self, known: Sources) -> Plugins:
        self.extend_path(known)
        asked = sources.asked_plugins(known)
        autoload = read_early("autoload", known)
        module = known.file.module if known.file else None
        try:
            with self.bounded("the import of plugins"):
                return load_plugins(
                    asked, autoload=autoload, config_module=module, known=self.installed
                )
        except PluginError as error:
            found = error.plugins.found
            details = "\n".join(info.traceback for info in found if info.traceback)
            self.problems += [Problem(text, error.exit_code) for text in error.errors]
            self.problems[-1] = replace(self.problems[-1], detail=details)
            return error.plugins

    def add_options(self, hooks: Hooks, plugins: Plugins, known: Sources) -> None:
        """Let the plugins declare their settings, also the built-in ones that are not loaded."""
        built_in = {candidate.name: candidate for candidate in plugins.installed_built_in()}
        raised = hooks.collect(
            "add_options",
            lambda plugin: {
                "options": self.declared.options_for(plugin, built_in=plugin in built_in)
            },
        )
        self.problems += [_problem(plugin, error) for plugin, error in raised]
        for name, reason in absent(plugins, known).items():
            if name in built_in and not self.problems:
                self.declared.add_absent(name, built_in[name].load(), reason)

    def flags(self, absent: Mapping[str, str]) -> Flags:
        """The command line with the plugins' flags known."""
        try:
            settings = (*self.declared.settings.values(), *self.declared.absent.values())
            return flags.split(self.argv, settings)
        except click.NoSuchOption as error:
            text = f"no such option {error.option_name}"
            owner = _owner(error.option_name.lstrip("-"), absent)
            if error.option_name in rq.NOT_NEEDED:
                text += f"; {rq.NOT_NEEDED[error.option_name]}"
            elif owner:
                text += f"; it belongs to plugin '{owner}', which is {absent[owner]}"
            elif error.possibilities:
                text += f"; did you mean {error.possibilities[0]}?"
            self.problems.append(Problem(text, ExitCode.USAGE))
        except click.UsageError as error:
            told = error.format_message()
            self.problems.append(Problem(told[:1].lower() + told[1:], ExitCode.USAGE))
        return flags.glance(self.argv)

    def configure(self, hooks: Hooks, reading: Reading) -> None:
        """Let the plugins check and change the settings."""
        draft = Draft(self.declared.settings, {n: v.value for n, v in reading.values.items()})
        raised = hooks.collect("configure", lambda plugin: {"config": draft.handed_to(plugin)})
        values, changed = draft.result()
        for name, plugin in changed.items():
            reading.values[name] = Value(values[name], Rank.HOOK, f"plugin '{plugin}'")
        for plugin, error in raised:
            if isinstance(error, ConfigError) and not error.source:
                value = reading.values.get(error.setting)
                if value and value.rank is not Rank.DEFAULT:
                    error.source = value.source
            self.problems.append(_problem(plugin, error))

    def settle(self, reading: Reading) -> None:
        """Make paths absolute, and name the state directory when nobody did."""
        for name, setting in self.declared.settings.items():
            known = reading.values[name]
            value = known.value
            if name == "state" and value is None:
                value = sources.state_directory(self.environ)
            if setting.kind.path and value:
                many = setting.kind.many
                value = tuple(map(self.absolute, value)) if many else self.absolute(value)
            reading.values[name] = replace(known, value=value)

    def check_state(self, reading: Reading) -> None:
        """Plugins trust what is in their folder, so nobody else may write there."""
        known = reading.values["state"]
        try:
            if known.value and Path(known.value).exists():
                check_writers(known.value, Path(known.value).stat(), "keep data there")
        except Untrusted as error:
            if known.rank is Rank.DEFAULT and not self.environ.get("STATE_DIRECTORY"):
                reading.warnings.append(f"the state directory is not used: {error}")
                reading.values["state"] = replace(known, value=None)
                return
            source = "STATE_DIRECTORY" if known.rank is Rank.DEFAULT else known.source
            self.problems.append(Problem(f"{source}: {error}", ExitCode.NO_PERMISSION))
        except OSError:
            pass  # whoever needs it says so

    def freeze(self, reading: Reading) -> Config:
        core: dict[str, Any] = {}
        options: dict[str, Any] = {}
        for name, setting in self.declared.settings.items():
            (options if setting.plugin else core)[name] = reading.values[name].value
        return Config(**core, options=options)

    def check_start(self, hooks: Hooks, config: Config, reading: Reading) -> None:
        """What a start would find out later: the arbiter plans again, for the count it has."""
        if config.daemonize and os.getpid() == 1:
            reading.blame(
                "daemonize",
                "this is process 1 of a container, which ends when it goes to the background;"
                " leave it out",
            )
        try:
            make_plan(hooks, config, config.workers)
        except ConfigError as error:
            remedy = f"\n  {error.remedy}" if error.remedy else ""
            reading.blame(error.setting, f"{error.problem}{remedy}")

    def keep_fixed(self, config: Config, running: Config, reading: Reading) -> Config:
        """Some settings keep their value until a restart; a new one is a warning."""
        fixed = {setting.name for setting in SETTINGS if setting.fixed}
        kept = {n: getattr(running, n) for n in fixed if getattr(running, n) != getattr(config, n)}
        for name, value in kept.items():
            reading.warnings.append(
                f"{reading.values[name].source}: {name}: {getattr(config, name)!r} takes a restart;"
                f" it stays {value!r}"
            )
        return replace(config, **kept)

    @contextlib.contextmanager
    def bounded(self, what: str) -> Iterator[None]:
        """Raise Refused if this takes longer than the limit."""
        try:
            with bounded(self.limit):
                yield
        except TookTooLong:
            text = f"{what} took longer than {self.limit:g} s; nothing slow belongs there"
            refuse([*self.problems, Problem(text)])


def absent(plugins: Plugins, known: Sources) -> dict[str, str]:
    """The plugins that are not loaded, and why."""
    blocked = [word for word in sources.asked_plugins(known) if word.name.startswith("no:")]
    why = {word.name.removeprefix("no:"): f"not loaded (blocked by {word})" for word in blocked}
    for info in plugins.found:
        if info.status == LOADED:
            why.pop(info.name, None)
        else:
            why[info.name] = f"not loaded ({info.error})"
    return why


def read_early(name: str, known: Sources) -> Any:
    """One setting before all can be read; what is wrong with it is told later."""
    reading = Reading()
    reading.read(OURS[name], known)
    return reading.values[name].value


def _owner(name: str, absent: Mapping[str, str]) -> str | None:
    """The plugin to which a flag or setting of this name would belong."""
    plain = name.replace("_", "-")
    return next((plugin for plugin in absent if plain.startswith(f"{plugin}-")), None)


def _problem(plugin: str, error: Exception) -> Problem:
    if isinstance(error, ConfigError):
        source = f"{error.source}: " if error.source else ""
        told = f"{source}{error.setting}: {error.problem}"
        if error.source != plugin:
            told += f" (plugin '{plugin}')"
        return Problem(f"{told}\n  {error.remedy}" if error.remedy else told)
    cause = error.cause if isinstance(error, HookFailed) else error
    return Problem(str(error), detail="".join(traceback.format_exception(cause)))


def _found_here(config: Config) -> list[str]:
    """The application does not belong into the arbiter, which keeps what it has imported."""
    return [
        f"{module} is imported in the arbiter, by a plugin or the config file at its top;"
        " import it inside hooks, and a reload brings its new code"
        for module in config.require
        if module in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names
    ]
