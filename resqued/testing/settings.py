"""Settings for tests of plugins: read and checked as in production, from keywords."""

from __future__ import annotations

from typing import Any

from resqued.config import SETTINGS, Config
from resqued.plugins.candidates import suggestion
from resqued.setting import Setting
from resqued.settings.options import OptionAdder, SettingsDraft
from resqued.testing.subject import Subject
from resqued.verdicts import ConfigError


def make_config(*plugins: object, **settings: Any) -> Config:
    """The settings in force, with the options that the plugins declare: their defaults, and these
    values, as a config file would have them.

        config = make_config(plugin, workers=4, statsd_host="127.0.0.1:8125")

    plugins: each counts as loaded (`config.has_plugin`); a text is the name of one without options.
    `configure` is not called. Raises TypeError for a setting that does not exist, ConfigError for
    a value that cannot be.
    """
    known, values = _read(plugins, settings)
    own = {name: value for name, value in values.items() if not known[name].plugin}
    options = {name: value for name, value in values.items() if known[name].plugin}
    return Config(**own, options=options, loaded_plugins=_names(plugins))


def make_draft(*plugins: object, **settings: Any) -> SettingsDraft:
    """The same as a draft, for the hook `configure`, which may assign to it."""
    return SettingsDraft(*_read(plugins, settings), _names(plugins))


def _names(plugins: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(each if isinstance(each, str) else Subject(each).shown for each in plugins)


def _read(
    plugins: tuple[object, ...], settings: dict[str, Any]
) -> tuple[dict[str, Setting], dict[str, Any]]:
    known = dict(SETTINGS)
    for each in plugins:
        if isinstance(each, str):
            continue
        subject = Subject(each)
        name = subject.name or type(each).__name__
        # where its name is not known, those of its options cannot be checked against it
        adder = OptionAdder(name, known, built_in=not subject.name, word=subject.word)
        for implementation in subject.implementations("add_options"):
            implementation.function(adder)
    values = {name: setting.default for name, setting in known.items()}
    for name, value in settings.items():
        if name not in known:
            hint = suggestion(name, known)
            raise TypeError(f"there is no setting {name!r}.{hint or ' Name its plugin first.'}")
        try:
            values[name] = known[name].kind.take(value)
        except ValueError as error:
            raise ConfigError(name, str(error)) from None
    return known, values
