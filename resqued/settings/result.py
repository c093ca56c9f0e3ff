"""The last steps of a reading of settings: to one frozen Config, checked as a whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resqued.config import Config
from resqued.exits import ExitCode, Problem
from resqued.logs.redaction import know
from resqued.ownership import Untrusted, check_writers
from resqued.plan import make_plan
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import LIMIT
from resqued.plugins.limits import HookTimeout
from resqued.plugins.registry import Plugins
from resqued.setting import Setting
from resqued.settings.sources import Rank, Reading
from resqued.verdicts import ConfigError


def know_secrets(reading: Reading, settings: Mapping[str, Setting]) -> None:
    """Have the log and all messages leave out the values that are secret."""
    for name, found in reading.values.items():
        if settings[name].secret:
            several = found.value if isinstance(found.value, tuple) else (found.value,)
            know(*(str(value) for value in several if value is not None))


def check_state(reading: Reading, environ: Mapping[str, str]) -> None:
    """Check that no other user can write to the folder of plugins, whose data they trust."""
    known = reading.values["state"]
    by_default = known.rank is Rank.DEFAULT
    try:
        if known.value and Path(known.value).exists():
            check_writers(known.value, Path(known.value).stat(), "keep data there")
    except Untrusted as error:
        if by_default and not environ.get("STATE_DIRECTORY"):
            reading.warnings.append(f"the state directory is not used: {error}")
            reading.values["state"] = replace(known, value=None)
            return
        source = "STATE_DIRECTORY" if by_default else known.source
        reading.problems.append(Problem(f"{source}: {error}", ExitCode.NO_PERMISSION))
    except OSError:
        pass  # a plugin that needs it says so


def freeze(
    reading: Reading,
    settings: Mapping[str, Setting],
    running: Config | None,
    loaded_plugins: tuple[str, ...],
) -> Config:
    """The settings as they are now. On a reload some keep their value, with a warning."""
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, found in reading.values.items():
        setting, value = settings[name], found.value
        if setting.fixed and running and value != getattr(running, name):
            kept = getattr(running, name)
            reading.warnings.append(
                f"{found.source}: {name}: {value!r} takes a restart; it stays {kept!r}"
            )
            value = kept
        (options if setting.plugin else own)[name] = value
    return Config(
        **own,
        options=options,
        option_plugins={name: settings[name].plugin for name in options},
        secret_options=tuple(name for name in options if settings[name].secret),
        loaded_plugins=loaded_plugins,
    )


def check_start(reading: Reading, plugins: Plugins, config: Config) -> None:
    """Find what a start would fail of later. On a reload the arbiter makes the plan itself."""
    if config.daemonize and os.getpid() == 1:
        reading.blame(
            "daemonize",
            "this is process 1 of a container, which ends when it goes to the background;"
            " leave it out",
        )

    def refuse_a_hang(failed: HookFailed) -> None:
        if isinstance(failed.cause, HookTimeout):
            raise failed  # the arbiter logs what others have raised

    try:
        hooks = plugins.hooks(LIMIT, on_failure=refuse_a_hang)
        make_plan(hooks, config, config.workers)
    except HookFailed as failed:
        reading.problems.append(Problem(str(failed)))
    except ConfigError as error:
        remedy = f"\n  {error.remedy}" if error.remedy else ""
        reading.blame(error.setting, f"{error.problem}{remedy}")


def imported_here(config: Config) -> list[str]:
    """Warn of modules of the application: on a reload the arbiter keeps what it has imported."""
    return [
        f"{module} is imported in the arbiter, by a plugin or the config file at its top;"
        " import it inside hooks, and a reload brings its new code"
        for module in config.require
        if module in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names
    ]
