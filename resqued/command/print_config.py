"""`resqued --print-config`: every setting in force, its value, and where that came from."""

from __future__ import annotations

import json

from resqued.logs.redaction import redact
from resqued.settings.loader import LoadedConfig
from resqued.settings.shown import lines


def text(loaded: LoadedConfig, *, as_json: bool = False) -> str:
    """The settings as JSON, or a line for each."""
    plain = [each.as_plain() for each in loaded.shown]
    return redact(json.dumps(plain, indent=2) if as_json else "\n".join(lines(plain)))
