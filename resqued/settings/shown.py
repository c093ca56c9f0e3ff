"""Every setting in force, with its value, where that came from, and what it overrules.

For `--print-config` and `resquedctl config`. Secrets are not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resqued.config import Config
from resqued.logs import redact
from resqued.setting import Setting
from resqued.settings.sources import Reading, SettingValue, Sources
from resqued.shares import QueueShare

_SECRET: Final = "(secret)"


@dataclass(frozen=True)
class ShownSetting:
    """One setting. value: plain JSON, as the config file would have it. overruled: weaker sources
    that have a value, strongest first."""

    name: str
    value: Any
    source: str
    overruled: tuple[tuple[str, Any], ...]

    def as_plain(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {
            "name": self.name,
            "value": self.value,
            "source": self.source,
            "overruled": [{"source": source, "value": value} for source, value in self.overruled],
        }


def shown(
    settings: Mapping[str, Setting], reading: Reading, sources: Sources, config: Config
) -> Iterator[ShownSetting]:
    """All settings but those of plugins that are not loaded. config: frozen from the reading."""
    for setting in settings.values():
        if not setting.absent:
            yield _shown(setting, reading, sources, config)


def _shown(setting: Setting, reading: Reading, sources: Sources, config: Config) -> ShownSetting:
    source = reading.values.get(setting.name, SettingValue(None)).source
    value = _plain(setting, getattr(config, setting.name))
    given = list(sources.find(setting))
    if setting.added:
        source = ", ".join(where for _, where, _ in given) or source
        return ShownSetting(setting.name, value, source, ())
    overruled = tuple(
        (where, _overruled(setting, read)) for _, where, read in reversed(given) if where != source
    )
    return ShownSetting(setting.name, value, source, overruled)


def _overruled(setting: Setting, read: Callable[[], Any]) -> Any:
    """The value of a weaker source. It was never looked at, so it may be wrong."""
    try:
        return _plain(setting, read())
    except Exception as error:
        return _plain(setting, f"({error})")


def _plain(setting: Setting, value: Any) -> Any:
    """As it would be written in the config file; plain JSON."""
    if setting.secret and setting.plugin:
        return _SECRET if value not in (None, (), "") else value
    if isinstance(value, tuple | list):
        return [_plain(setting, each) for each in value]
    if isinstance(value, QueueShare):
        return str(value)
    if isinstance(value, int | float | bool | None):
        return value
    return redact(str(value))


def lines(plain: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each of what `as_plain` gave, in columns:
    `workers = 32      RESQUED_WORKERS (resqued.conf.py:2 says 16)`."""
    for each in plain:
        others = ", ".join(f"{one['source']} says {one['value']!r}" for one in each["overruled"])
        setting = f"{each['name']} = {each['value']!r}"
        yield f"{setting:{_COLUMN}} {each['source']}{f' ({others})' if others else ''}"


_COLUMN: Final = 44
