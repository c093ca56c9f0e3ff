"""Remove passwords from text that people read: log lines, tracebacks, titles.

Known passwords are removed wherever they stand, in every encoding; other text only by its place, in
a URL or a setting. Known are the values of this process's settings: pass them to `know` before
anything is logged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

_IN_URL: Final = re.compile(r"(\w[\w+.-]*://[^\s:@/'\"]*):[^\s'\"]*@")
_IN_QUERY: Final = re.compile(r"([?&]\w*password=)[^\s&'\"]+", re.IGNORECASE)
_IN_REPR: Final = re.compile(r"""(\b\w*password['"]?\s*[=:]\s*b?)(['"]).*?\2""", re.IGNORECASE)

_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|dsn|_key\b", re.IGNORECASE)
_PREFIXES: Final = ("RQ_", "RESQUED_", "REDIS_", "SENTRY_")
_SHORTEST: Final = 4
_COMMON: Final = {"redis", "rediss", "resqued", "default", "localhost", "worker", "none", "true"}
"""Words that are frequent in a log. As passwords they are removed from URLs only."""


class _Known:
    """The known passwords of this process."""

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None
        self._patterns: dict[str, str] = {}  # by the text that each matches

    def add(self, secrets: Iterable[str]) -> None:
        fresh = {form: text for secret in secrets for form, text in _forms(secret).items()}
        if fresh.items() <= self._patterns.items():
            return
        self._patterns |= fresh
        longest_first = sorted(self._patterns, key=len, reverse=True)
        self.pattern = re.compile("|".join(self._patterns[form] for form in longest_first))


_known: Final = _Known()


def know(*values: str | None) -> None:
    """Register passwords: a URL with the passwords in it, or a secret by itself. Call it in every
    process before it logs; a forked child inherits them."""
    for value in values:
        if value:
            _known.add(secrets_of(value) if "://" in value else [value])


def know_environment(environ: Mapping[str, str]) -> None:
    """Register the values of variables whose names suggest a password, and of URLs with a user."""
    for name, value in environ.items():
        named = name.startswith(_PREFIXES) and _SECRET_NAME.search(name)
        if named or ("://" in value and "@" in value):
            know(value)


def secrets_of(url: str) -> Iterator[str]:
    """The passwords in a URL, as written there. Also in a malformed one: up to the last @, or with
    a / or a blank that should have been encoded."""
    rest = url.partition("://")[2]
    before_query, _, query = rest.partition("?")
    for text in (rest, before_query, re.split(r"[/?#]", rest, maxsplit=1)[0]):
        user, at, _ = text.rpartition("@")
        if at:
            name, colon, password = user.partition(":")
            yield password if colon else name
    for name, value in parse_qsl(query, keep_blank_values=False):
        if _SECRET_NAME.search(name):
            yield value
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and _SECRET_NAME.search(name):
            yield value


def redact(text: str) -> str:
    """`text` with every password replaced by `***`: redis://user:***@host, password='***'. Up to
    the last @ of a word, so that an unescaped @ in a password does not reveal its end."""
    if _known.pattern is not None:
        text = _known.pattern.sub("***", text)
    if "://" in text:
        text = _IN_URL.sub(r"\1:***@", text)
    if "assword" in text or "ASSWORD" in text:
        text = _IN_REPR.sub(r"\1\2***\2", _IN_QUERY.sub(r"\1***", text))
    return text


def _forms(secret: str) -> dict[str, str]:
    """How a secret may be written, each with its pattern: decoded, URL-encoded, quoted."""
    return {
        form: _as_pattern(form, plain)
        for plain in {secret, unquote(secret), unquote_plus(secret)} - {""}
        for written in (plain, *_quoted(plain))
        for form in (
            written,
            repr(written)[1:-1],
            json.dumps(written)[1:-1],
            re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), written),
        )
    }


def _quoted(plain: str) -> tuple[str, ...]:
    raw = plain.encode(errors="surrogateescape")  # a command line may hold any bytes
    return quote(raw, safe=""), quote(raw), quote_plus(raw)


def _as_pattern(form: str, plain: str) -> str:
    """A password of letters and digits is matched as a whole word only, and a short or common one
    only in a URL: else it would match parts of other words."""
    escaped = re.escape(form)
    if len(plain.strip()) < _SHORTEST or plain.strip().lower() in _COMMON:
        return f"(?<=:){escaped}(?=@)"
    return rf"(?<![^\W_]){escaped}(?![^\W_])" if form.isalnum() else escaped
