"""Taking passwords out of text that somebody will read: log lines, tracebacks, titles."""

from __future__ import annotations

import re
from typing import Final

_IN_URL: Final = re.compile(r"(\w[\w+.-]*://[^\s:@/'\"]*):[^\s'\"]*@")
_IN_QUERY: Final = re.compile(r"([?&](?:\w+_)?password=)[^\s&'\"]+", re.IGNORECASE)
_IN_REPR: Final = re.compile(r"""(\bpassword['"]?\s*[=:]\s*b?)(['"]).*?\2""", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with every password in it as `***`: redis://user:***@host, password='***'.

    Up to the last @ of a word, so that an unescaped @ in a password does not uncover its tail.
    """
    if "://" in text:
        text = _IN_URL.sub(r"\1:***@", text)
    if "assword" in text or "ASSWORD" in text:
        text = _IN_REPR.sub(r"\1\2***\2", _IN_QUERY.sub(r"\1***", text))
    return text
