"""`resqued --print-config`: every setting in force, its value, and where that came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from resqued.config import Config
from resqued.logs.redaction import redact
from resqued.setting import Setting
from resqued.settings.loader import Loader
from resqued.settings.sources import SettingValue
from resqued.shares import QueueShare

_SECRET: Final = "(secret)"
_COLUMN: Final = 44


@dataclass(frozen=True)
class ShownSetting:
    """One setting. overruled: weaker sources that have a value, strongest first."""

    name: str
    value: Any
    source: str
    overruled: tuple[tuple[str, Any], ...]


def text(loader: Loader, config: Config, *, as_json: bool = False) -> str:
    """loader: after `load`, which gave `config`."""
    shown = [_shown(loader, config, setting) for setting in _settings(loader)]
    if as_json:
        plain = [
            {
                "name": each.name,
                "value": each.value,
                "source": each.source,
                "overruled": [{"source": s, "value": v} for s, v in each.overruled],
            }
            for each in shown
        ]
        return redact(json.dumps(plain, indent=2))
    return redact("\n".join(_line(each) for each in shown))


def _settings(loader: Loader) -> Iterator[Setting]:
    yield from (setting for setting in loader.settings.values() if not setting.absent)


def _shown(loader: Loader, config: Config, setting: Setting) -> ShownSetting:
    source = loader.reading.values.get(setting.name, SettingValue(None)).source
    value = _plain(setting, getattr(config, setting.name))
    given = list(loader.sources.find(setting))
    if setting.added:
        source = ", ".join(where for _, where, _ in given) or source
        return ShownSetting(setting.name, value, source, ())
    overruled = tuple(
        (where, _plain(setting, read())) for _, where, read in reversed(given) if where != source
    )
    return ShownSetting(setting.name, value, source, overruled)


def _plain(setting: Setting, value: Any) -> Any:
    """As it would be written in the config file; plain JSON."""
    if setting.secret and setting.plugin:
        return _SECRET if value not in (None, (), "") else value
    if isinstance(value, tuple | list):
        return [_plain(setting, each) for each in value]
    if isinstance(value, QueueShare):
        return str(value)
    if isinstance(value, str | int | float | bool | None):
        return value
    return str(value)


def _line(shown: ShownSetting) -> str:
    """`workers = 32      RESQUED_WORKERS (resqued.conf.py:2 says 16)`."""
    others = ", ".join(f"{source} says {value!r}" for source, value in shown.overruled)
    setting = f"{shown.name} = {shown.value!r}"
    return f"{setting:{_COLUMN}} {shown.source}{f' ({others})' if others else ''}"
