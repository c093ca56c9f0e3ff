"""A text for values that is the same in each process and version of Python, for digests.

A pickle is not: it depends on the order of sets and on which values are the same object.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PROTOCOL: Final = 4  # of Python 3.4 and later


def digest(*values: Any, length: int = 16) -> str:
    """So many hexadecimal digits."""
    text = "".join(_parts(values))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:length]


def _parts(value: Any) -> Iterator[str]:
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        yield f"{kind.__name__} {value!r};"
    elif isinstance(value, Mapping) and kind.__module__ in ("builtins", "collections"):
        yield "dict("
        yield from sorted(
            "".join((*_parts(key), "=", *_parts(each))) for key, each in value.items()
        )
        yield ");"
    elif kind in (list, tuple):
        yield f"{kind.__name__}("
        for each in value:
            yield from _parts(each)
        yield ");"
    elif kind in (set, frozenset):
        yield f"{kind.__name__}("
        yield from sorted("".join(_parts(each)) for each in value)
        yield ");"
    else:
        yield f"{kind.__module__}.{kind.__qualname__} {_pickled(value)};"


def _pickled(value: Any) -> str:
    """Of a value that cannot be pickled (another serializer writes it) only its type counts."""
    try:
        return hashlib.sha256(pickle.dumps(value, protocol=_PROTOCOL)).hexdigest()
    except Exception:
        return "-"
