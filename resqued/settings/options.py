"""Settings that plugins declare: what `add_options` is given, and the draft for `configure`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Final

from resqued import kinds
from resqued.config import SETTINGS, Config
from resqued.kinds import Kind, many, optional
from resqued.plain import as_tuples, is_plain
from resqued.plugins.errors import describe
from resqued.setting import PLUGINS, Setting
from resqued.settings.command_line import COMMAND_FLAGS
from resqued.verdicts import ConfigError

_TAKEN: Final = {*dir(Config), *(each.name for each in fields(Config))} - set(SETTINGS)
"""Names that `config` has for something else than a setting."""

_SECRET: Final = re.compile(r"(password|secret|token|key|dsn|url)$")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return found[0] if found else None


class OptionAdder:
    """`options` of `add_options(options)`, for one plugin: adds to `settings`, by name.

    The names of a built-in plugin are free. word: what the names of another's begin with, if that
    is not the last part of its name. absent: why the plugin is not loaded; its settings
    are noted all the same, for messages about their use, unless another plugin has them.
    """

    def __init__(
        self,
        plugin: str,
        settings: dict[str, Setting],
        *,
        built_in: bool = False,
        word: str = "",
        absent: str = "",
    ) -> None:
        self._plugin = plugin
        self._settings = settings
        self._absent = absent
        self._prefixes: list[str] = []  # of its names; those of the config file are free
        if not built_in and not plugin.endswith(".py"):
            word = word or plugin.rpartition(".")[2]
            name = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
            short = name.removeprefix("resqued-")  # as its entry point calls `resqued_alert`
            self._prefixes = [f"--{each}" for each in dict.fromkeys([short, name])]

    def add(
        self,
        flag: str,
        *,
        default: Any = None,
        help: str = "",
        type: Callable[[str], Any] | str | None = None,
        group: str = PLUGINS,
        choices: Sequence[Any] | None = None,
        metavar: str = "",
        secret: bool = False,
        many: bool = False,
    ) -> None:
        """Declare a flag, and with it a setting and a variable: `--statsd-host`.

        The arguments are those of `protocols.Options`. The value is then `config.statsd_host`.
        Raises ValueError for a name that does not begin with the plugin's, or that is taken, and
        for arguments that do not fit each other.
        """
        word = flag.removeprefix("--")
        own = self._prefixes[0] if self._prefixes else ""
        if not re.fullmatch(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*", flag):
            raise ValueError(f"{flag!r} is not the name of an option; write {own or '-'}-word")
        if own and not any(f"{flag}-".startswith(f"{each}-") for each in self._prefixes):
            raise ValueError(f"{flag} must begin with the plugin's name: {own}-...")
        if many and default is None:
            default = ()
        default = as_tuples(default)
        if many and not isinstance(default, tuple):
            raise ValueError(f"{flag} has many values, so its default {default!r} must be a list")
        kind = _kind(type, default, choices)
        if not is_plain(default):
            raise ValueError(f"{flag} has the default {default!r}, which is not a plain value")
        name, settings = word.replace("-", "_"), self._settings
        secret = secret or bool(_SECRET.search(name))
        if metavar or (secret and choices):
            kind = replace(kind, metavar=metavar or "VALUE")
        if choices is not None and default is not None:
            try:
                kind.take(default)
            except ValueError as error:
                raise ValueError(f"the default of {flag}: {error}") from None
        if self._absent and name in settings:
            return
        if name in _TAKEN:
            raise ValueError(f"{flag} cannot be an option: config.{name} is something else")
        off = f"--no-{word}" if kind.switch else ""
        taken = {each for setting in settings.values() for each in _names(setting)}
        if {name, flag, off} & {*taken, *COMMAND_FLAGS}:
            owners = [s.plugin for s in settings.values() if _names(s) & {name, flag, off}]
            whose = f", of plugin '{owners[0]}'" if owners and owners[0] else ""
            raise ValueError(f"there is an option {flag} already{whose}")
        settings[name] = Setting(
            name,
            kind,
            (flag,),
            help,
            group,
            default,
            off,
            secret=secret,
            plugin=self._plugin,
            absent=self._absent,
        )


def _names(setting: Setting) -> set[str]:
    """All under which a setting can be given, but the variable."""
    return {setting.name, *setting.flags, setting.off, *setting.aliases} - {""}


def _kind(
    read: Callable[[str], Any] | str | None, default: Any, choices: Sequence[Any] | None
) -> Kind:
    """The kind of value that `type`, the default and the choices describe. Raises ValueError."""
    if isinstance(default, tuple):
        sample = next(iter(default or choices or ()), "")
        return many(_item(read or type(sample), choices))
    if read is None:
        sample = next(iter(choices or ()), "") if default is None else default
        read = type(sample)
    if read is bool:
        if choices is not None:
            raise ValueError("a switch has no choices")
        return kinds.SWITCH
    return optional(_item(read, choices)) if default is None else _item(read, choices)


_NAMED: Final = {"count": kinds.COUNT, "seconds": kinds.DURATION, "size": kinds.SIZE}
_TYPES: Final[dict[Any, tuple[tuple[type, ...], str, str]]] = {
    int: ((int,), "N", "a whole number"),
    float: ((int, float), "NUMBER", "a number"),
    str: ((str,), "TEXT", "text; put it in quotes"),
}


def _item(read: Callable[[str], Any] | str, choices: Sequence[Any] | None) -> Kind:
    kind = _NAMED.get(read) if isinstance(read, str) else _read_by(read)
    if kind is None:
        raise ValueError(f"type={read!r} is none of {', '.join(_NAMED)}")
    return kind if choices is None else _one_of(kind, choices)


def _one_of(kind: Kind, choices: Sequence[Any]) -> Kind:
    """The same kind of value, and one of these."""
    if isinstance(choices, str) or not isinstance(choices, Collection) or not choices:
        raise ValueError(f"choices={choices!r} is not a list of values")
    taken = [kind.take(each) for each in choices]

    def chosen(value: Any) -> Any:
        if value not in taken:
            raise ValueError(f"{value!r} is none of {', '.join(map(str, taken))}")
        return value

    return Kind(
        "|".join(map(str, taken)),
        lambda text: chosen(kind.read(text)),
        lambda value: chosen(kind.take(value)),
    )


def _read_by(read: Callable[[str], Any]) -> Kind:
    """Values that a type or a function of the plugin's reads."""
    wanted, metavar, words = _TYPES.get(read, ((), "VALUE", ""))
    if isinstance(read, type) and not wanted:
        raise ValueError(f"type={read.__name__} reads no text; give int, float, bool or a function")

    def from_text(text: str) -> Any:
        try:
            value = read(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{text!r}: {error}") from None
        except Exception as error:
            raise ValueError(f"{text!r}: {describe(error)}") from None
        return plain(value)

    def from_python(value: Any) -> Any:
        if isinstance(value, str) and read is not str:
            return from_text(value)
        if wanted and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(f"{value!r} is not {words}")
        return plain(float(value) if read is float else value)

    def plain(value: Any) -> Any:
        if not is_plain(value):
            raise ValueError(f"{value!r} is not a plain value: text, a number, a list of them")
        return as_tuples(value)

    return Kind(metavar, from_text, from_python)


class SettingsDraft:
    """The settings as `configure` hooks have them: attributes that may be set.

    A value is read as the config file's would be. Raises ConfigError for one that cannot be, and
    for a setting that does not exist.
    """

    def __init__(
        self, settings: Mapping[str, Setting], values: dict[str, Any], plugins: Collection[str] = ()
    ) -> None:
        self.__dict__.update(_settings=settings, _values=values, _changed={}, _plugin="")
        self.__dict__["_plugins"] = plugins

    def has_plugin(self, name: str) -> bool:
        """Whether this plugin is loaded: by its name as `--list-plugins` shows it."""
        return name in self.__dict__["_plugins"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        setting = self._settings.get(name)
        if setting is None or setting.absent:
            close = nearest(name, self._settings)
            remedy = f"Did you mean {close}?" if close else "A plugin declares it in add_options."
            raise ConfigError(name, "there is no such setting", remedy=remedy, source=self._plugin)
        try:
            self._values[name] = setting.kind.take(value)
        except ValueError as error:
            hidden = setting.secret and setting.plugin  # a kind of resqued's own repeats no secret
            problem = "its value cannot be (it is not shown)" if hidden else str(error)
            raise ConfigError(name, problem, source=self._plugin) from None
        self._changed[name] = self._plugin

    def handed_to(self, plugin: str) -> SettingsDraft:
        """The same draft, with the name of the plugin that is called now."""
        self.__dict__["_plugin"] = plugin
        return self

    def result(self) -> tuple[dict[str, Any], dict[str, str]]:
        """All values, and the plugin that set each one that was set."""
        return self._values, self._changed
