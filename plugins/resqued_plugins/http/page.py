"""The page at `/`: one document with its style and its script in it, and the policy that lets a
browser run these two and nothing else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

from resqued_plugins.http.message import Response

_FOLDER: Final = Path(__file__).parent


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline element by its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page() -> Response:
    """Read from the files beside this module, when the server is made: they may be replaced
    later."""
    style, script = _read("page.css"), _read("page.js")
    text = _read("page.html").replace("{{style}}", style).replace("{{script}}", script)
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    joined = "; ".join(f"{name} {value}" for name, value in policy.items())
    return Response(
        200,
        text.encode(),
        "text/html; charset=utf-8",
        {"Content-Security-Policy": joined, "Referrer-Policy": "no-referrer"},
    )
