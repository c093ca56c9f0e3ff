"""Taking passwords out of text that somebody will read: log lines, tracebacks, titles.

What is known to be one is taken out wherever it stands, however it is written; what only looks
like one, by its place in a URL or a setting. Known are the values that this process was given:
`know` is told of them before anything can be logged.
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
_OURS: Final = ("RQ_", "RESQUED_", "REDIS_", "SENTRY_")
_SHORTEST: Final = 4
_COMMON: Final = {"redis", "rediss", "resqued", "default", "localhost", "worker", "none", "true"}
"""Words that stand everywhere in a log. As a password they are taken out of URLs alone."""


class _Known:
    """The passwords of this process, which are the process's own, as its log is."""

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None
        self._patterns: dict[str, str] = {}  # by the text that each takes out

    def add(self, secrets: Iterable[str]) -> None:
        fresh = {form: text for secret in secrets for form, text in _forms(secret).items()}
        if fresh.items() <= self._patterns.items():
            return
        self._patterns |= fresh
        longest_first = sorted(self._patterns, key=len, reverse=True)
        self.pattern = re.compile("|".join(self._patterns[form] for form in longest_first))


_known: Final = _Known()


def know(*values: str | None) -> None:
    """These are, or hold, passwords: URLs with what is in them, and secrets by themselves.

    In every process, before it logs; a forked child knows what its parent knew.
    """
    for value in values:
        if value:
            _known.add(secrets_of(value) if "://" in value else [value])


def know_environment(environ: Mapping[str, str]) -> None:
    """What variables hold that are called as passwords are, and all URLs with a user in them."""
    for name, value in environ.items():
        named = name.startswith(_OURS) and _SECRET_NAME.search(name)
        if named or ("://" in value and "@" in value):
            know(value)


def secrets_of(url: str) -> Iterator[str]:
    """The passwords of a URL, as they stand there. Also of one that is not well-formed: up to the
    last @, or with a / or a blank that should have been encoded."""
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
    """`text` with every password in it as `***`: redis://user:***@host, password='***'.

    Up to the last @ of a word, so that an unescaped @ in a password does not uncover its tail.
    """
    if _known.pattern is not None:
        text = _known.pattern.sub("***", text)
    if "://" in text:
        text = _IN_URL.sub(r"\1:***@", text)
    if "assword" in text or "ASSWORD" in text:
        text = _IN_REPR.sub(r"\1\2***\2", _IN_QUERY.sub(r"\1***", text))
    return text


def _forms(secret: str) -> dict[str, str]:
    """How a secret may be written, each with its pattern: decoded, encoded for a URL, quoted."""
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
    """Letters and digits alone are a password only as a whole word, and what is short or common
    only in its place in a URL: three letters are in many words."""
    escaped = re.escape(form)
    if len(plain.strip()) < _SHORTEST or plain.strip().lower() in _COMMON:
        return f"(?<=:){escaped}(?=@)"
    return rf"(?<![^\W_]){escaped}(?![^\W_])" if form.isalnum() else escaped
