"""From the command line, the environment, the config file and plugins to one frozen Config.

Runs in the arbiter, at the start and on each reload, and under `--check` and the listings.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from resqued.config import SETTINGS, Config
from resqued.exits import ExitCode, InvalidSettings, Problem, refuse
from resqued.namesakes import put_first, put_last
from resqued.plugins.candidates import Candidate
from resqued.plugins.hooks import LIMIT
from resqued.plugins.limits import HookTimeout, call_within
from resqued.plugins.registry import LOADED, PluginError, Plugins, load_plugins
from resqued.settings import command_line, configfile, rq, sources
from resqued.settings.command_line import CommandLine
from resqued.settings.configfile import BadFile, ConfigFile
from resqued.settings.options import OptionAdder, SettingsDraft
from resqued.settings.result import check_start, check_state, freeze, imported_here, know_secrets
from resqued.settings.shown import ShownSetting, shown
from resqued.settings.sources import Rank, Reading, SettingValue, Sources
from resqued.verdicts import ConfigError

_T = TypeVar("_T")


@dataclass(frozen=True)
class LoadedConfig:
    """What a start or a reload has found."""

    config: Config
    plugins: Plugins
    warnings: tuple[str, ...]
    directory: str  # the working directory, by the name its user gave it
    redis_from: str = ""  # the plugin that has set the URL, and may start the server
    shown: tuple[ShownSetting, ...] = ()


class Loader:
    """One reading of all settings, step by step. Problems collect in `reading`.

    line: as `parse_early` gives it. directory: becomes the working directory; relative paths are
    below it. running: the settings in force, on a reload, when the arbiter plans itself. limit:
    seconds that the file and the import of the plugins may take; each hook has its own limit. Needs
    the main thread and SIGALRM.
    installed: the plugins that were installed at the start, for when their files are gone.
    Raises InvalidSettings.

    Nothing is imported from the working directory before the settings say so: by a config file
    that may be run, or by the name of a plugin. At the end it is on the path of modules.
    """

    def __init__(
        self,
        line: CommandLine,
        environ: Mapping[str, str],
        directory: str,
        *,
        running: Config | None = None,
        limit: float | None = None,
        installed: Sequence[Candidate] = (),
    ) -> None:
        try:
            os.chdir(directory)
        except OSError as error:
            text = f"{directory}: {error.strerror}; it is the working directory"
            raise InvalidSettings([Problem(text)]) from None
        self.line = line
        self.environ = environ
        self.directory = directory
        self.running = running
        self.limit = limit
        self.installed = installed
        self.settings = dict(SETTINGS)  # and those that plugins declare
        self.reading = Reading()
        self.module = ""  # RQ's settings module, when the flag -c names one

    def load(self) -> LoadedConfig:
        """Read everything, load the plugins, ask `configure`, freeze. Raises InvalidSettings."""
        self.read_sources()
        self.load_plugins()
        reading = self.reading
        whole = not reading.problems  # else an unknown name may be of what could not be loaded
        if whole:
            self.parse()
        for setting in self.settings.values():
            if setting.absent:
                reading.note_absent(setting, self.sources)
                continue
            reading.read(setting, self.sources)
        know_secrets(reading, self.settings)
        if whole:
            reading.find_unknown(self.settings, self.sources, self.absent_plugins())
        reading.check_together()
        self.refuse()
        if self.sources.file:
            reading.values["config"] = SettingValue(self.sources.file.path)
        self.settle_paths()
        self.configure()
        know_secrets(reading, self.settings)
        self.settle_paths()
        reading.check_together()
        check_state(reading, self.environ)
        config = freeze(reading, self.settings, self.running, self.loaded_names())
        self.refuse()
        put_last(self.directory)
        if self.running is None:
            check_start(reading, self.plugins, config)
            self.refuse()
        url = reading.values["redis"]
        return LoadedConfig(
            config,
            self.plugins,
            (
                *self.sources.ambient.warnings,
                *self.sources.module.warnings,
                *self.plugins.warnings,
                *reading.warnings,
                *imported_here(config),
            ),
            self.directory,
            url.source if url.rank is Rank.HOOK else "",
            tuple(shown(self.settings, reading, self.sources, config)),
        )

    def refuse(self) -> None:
        """Raise InvalidSettings if there is any problem so far."""
        refuse(self.reading.problems)

    def problem(self, text: str, exit_code: ExitCode = ExitCode.CONFIG, detail: str = "") -> None:
        """Keep a problem."""
        self.reading.problems.append(Problem(text, exit_code, detail))

    def read_sources(self) -> None:
        """The flags that are known yet, the environment, RQ's settings, and the config file."""
        ambient = rq.from_environment(self.environ)
        self.sources = Sources(self.without_module(self.line), self.environ, ambient=ambient)
        if name := self.module or self.environ.get(rq.VARIABLE, ""):
            self.extend_path()
            put_last(self.directory)
            try:
                module = self.within(f"the import of {name}", lambda: rq.from_module(name))
                self.sources = replace(self.sources, module=module)
            except rq.BadModule as error:
                self.problem(str(error), detail=error.detail)
        named = self.sources.read_early("config")
        if named is None and self.running is not None:
            named = self.running.config  # the file of the start may not be missing now
        self.sources = replace(self.sources, file=self.read_file(named))

    def without_module(self, line: CommandLine) -> Mapping[str, Any]:
        """The flags without `-c MODULE`, RQ's way to name its settings module; it is kept."""
        named = line.values.get("config")
        if not isinstance(named, str) or not rq.names_module(named, self.directory):
            return line.values
        self.module = named
        return {name: value for name, value in line.values.items() if name != "config"}

    def extend_path(self) -> None:
        put_first(map(self.absolute, self.sources.read_early("path")))

    def absolute(self, path: str) -> str:
        # not resolve(): a symlink that a deployment swings keeps its name
        try:
            return os.path.normpath(Path(self.directory, Path(path).expanduser()))
        except RuntimeError:  # of a user who has no home, or who does not exist
            self.problem(f"{path}: there is no such home directory")
            return path

    def read_file(self, named: str | None) -> ConfigFile | None:
        """Execute the config file that is named, or that is there."""
        path = self.absolute(named or configfile.FILE_NAME)
        if not named and not os.path.lexists(path):
            return None
        try:
            return self.within(
                Path(path).name,
                lambda: configfile.execute(path, lambda: put_last(self.directory)),
            )
        except BadFile as error:
            detail = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
            self.problem(str(error), error.exit_code, configfile.without_passwords(detail))
            return None

    def load_plugins(self) -> None:
        """Load the plugins and let them declare their settings."""
        self.extend_path()
        asked = self.sources.asked_plugins()
        autoload = self.sources.read_early("autoload")
        module = self.sources.file.module if self.sources.file else None
        try:
            self.plugins = self.within(
                "the import of plugins",
                lambda: load_plugins(
                    asked,
                    autoload=autoload,
                    config_module=module,
                    known=self.installed,
                    limit=LIMIT if self.limit is None else None,  # else that is for all of it
                ),
            )
        except PluginError as error:
            self.plugins = error.plugins
            details = [info.traceback for info in self.plugins.found if info.traceback]
            for text in error.errors:
                self.problem(text, error.exit_code, "\n".join(details))
                details = []
        self.hooks = self.plugins.hooks(LIMIT)
        built_in = {c.name: c for c in self.plugins.installed if c.built_in}
        words = {info.name: info.word for info in self.plugins.loaded()}
        self.collect(
            "add_options",
            options=lambda name: OptionAdder(
                name, self.settings, built_in=name in built_in, word=words.get(name, "")
            ),
        )
        for name, reason in self.absent_plugins().items():
            if name in built_in and not self.reading.problems:
                adder = OptionAdder(name, self.settings, built_in=True, absent=reason)
                getattr(built_in[name].load(), "add_options", id)(adder)

    def absent_plugins(self) -> dict[str, str]:
        """The plugins that are not loaded, and why."""
        blocked = [word for word in self.sources.asked_plugins() if word.name.startswith("no:")]
        why = {word.name.removeprefix("no:"): f"not loaded (blocked by {word})" for word in blocked}
        for info in self.plugins.found:
            if info.status == LOADED:
                why.pop(info.name, None)
            else:
                why[info.name] = f"not loaded ({info.error})"
        return why

    def parse(self) -> None:
        """Parse the command line with the plugins' flags, also of those that are not loaded."""
        try:
            line = command_line.parse(self.line.argv, self.settings.values())
            self.sources = replace(self.sources, flags=self.without_module(line))
        except click.NoSuchOption as error:
            text = f"no such option {error.option_name}"
            absent = self.absent_plugins()
            owner = sources.owner_of(error.option_name.lstrip("-"), absent)
            if error.option_name in rq.NOT_NEEDED:
                text += f"; {rq.NOT_NEEDED[error.option_name]}"
            elif owner:
                text += f"; it belongs to plugin '{owner}', which is {absent[owner]}"
            elif error.possibilities:
                text += f"; did you mean {error.possibilities[0]}?"
            self.problem(text, ExitCode.USAGE)
        except click.UsageError as error:
            text = error.format_message()
            self.problem(text[:1].lower() + text[1:], ExitCode.USAGE)

    def collect(self, hook: str, **arguments: Callable[[str], Any]) -> None:
        """Call a hook of every plugin, with arguments made for it by its name; keep problems."""
        raised = self.hooks.collect(
            hook, lambda plugin: {name: make(plugin) for name, make in arguments.items()}
        )
        for plugin, error in raised:
            if isinstance(error, ConfigError):
                value = self.reading.values.get(error.setting)
                if not error.source and value and value.rank is not Rank.DEFAULT:
                    error.source = value.source
                source = f"{error.source}: " if error.source else ""
                text = f"{source}{error.setting}: {error.problem}"
                text += f" (plugin '{plugin}')" if error.source != plugin else ""
                self.problem(f"{text}\n  {error.remedy}" if error.remedy else text)
            else:
                detail = "".join(traceback.format_exception(error.__cause__ or error))
                self.problem(str(error), detail=detail)

    def loaded_names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.plugins.loaded())

    def configure(self) -> None:
        """Let the plugins check and change the settings."""
        values = self.reading.values
        draft = SettingsDraft(
            self.settings,
            {name: found.value for name, found in values.items()},
            self.loaded_names(),
        )
        self.collect("configure", config=draft.handed_to)
        drafted, changed = draft.result()
        for name, plugin in changed.items():
            values[name] = SettingValue(drafted[name], Rank.HOOK, f"plugin '{plugin}'")

    def settle_paths(self) -> None:
        """Make paths absolute, and set the default of the state directory."""
        for name, known in self.reading.values.items():
            kind, value = self.settings[name].kind, known.value
            if name == "state" and value is None:
                value = sources.state_directory(self.environ)
            if kind.path and value:
                value = tuple(map(self.absolute, value)) if kind.many else self.absolute(value)
            self.reading.values[name] = replace(known, value=value)

    def within(self, what: str, function: Callable[[], _T]) -> _T:
        """Call it. Raises InvalidSettings if it takes longer than the limit."""
        try:
            return call_within(self.limit, function, what=what)
        except HookTimeout as error:
            self.problem(f"{what} {error}; nothing slow belongs there")
            self.refuse()
            raise AssertionError("there is a problem") from error
