"""What is sent over the control socket: one packet a request, one or more an answer; JSON.

Both say the version of this protocol. The last packet of an answer is marked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

VERSION: Final = 1

LONGEST: Final = 64 * 1024
"""Bytes of a packet."""

ACCEPTED: Final = "accepted"
"""It is being done; with `wait` another packet follows."""
DONE: Final = "done"
REFUSED: Final = "refused"
"""The arbiter will not do it: `reason` says why."""
WRONG: Final = "wrong"
"""The request cannot be understood: `reason` says why."""


class BadPacket(Exception):
    """What was received is no packet of this version. The message says why."""


@dataclass(frozen=True)
class ControlRequest:
    """A verb with its arguments. wait: answer again when what it asks for has come about."""

    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)
    wait: bool = False

    def encode(self) -> bytes:
        """Raises ValueError if it is longer than LONGEST."""
        plain = {"version": VERSION, "verb": self.verb, "arguments": self.arguments}
        return _pack({**plain, "wait": self.wait})

    @classmethod
    def decode(cls, raw: bytes) -> ControlRequest:
        """Raises BadPacket for anything else than a request, of any depth."""
        plain = _unpack(raw)
        verb, arguments, wait = (
            plain.get("verb"),
            plain.get("arguments", {}),
            plain.get("wait", False),
        )
        if not isinstance(verb, str) or not verb:
            raise BadPacket(f"verb={verb!r} is no verb")
        if not isinstance(arguments, dict):
            raise BadPacket(f"arguments={arguments!r} are no object")
        if not isinstance(wait, bool):
            raise BadPacket(f"wait={wait!r} is neither true nor false")
        return cls(verb, arguments, wait)


@dataclass(frozen=True)
class ControlAnswer:
    """One packet of an answer. kind: one of the words above. facts: what a verb has to tell."""

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    last: bool = True

    def encode(self) -> bytes:
        """Raises ValueError if it is longer than LONGEST, TypeError for what is no JSON."""
        plain = {"version": VERSION, "kind": self.kind, "facts": self.facts}
        return _pack({**plain, "last": self.last})

    @classmethod
    def decode(cls, raw: bytes) -> ControlAnswer:
        """Raises BadPacket."""
        plain = _unpack(raw)
        kind, facts, last = plain.get("kind"), plain.get("facts", {}), plain.get("last", True)
        if not isinstance(kind, str) or not isinstance(facts, dict):
            raise BadPacket("this is no answer")
        return cls(kind, facts, bool(last))


def _pack(plain: dict[str, Any]) -> bytes:
    raw = json.dumps(plain).encode()
    if len(raw) > LONGEST:
        raise ValueError(f"{len(raw)} bytes; a packet has at most {LONGEST}")
    return raw


def _unpack(raw: bytes) -> dict[str, Any]:
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadPacket(f"this is no JSON: {type(error).__name__}") from error
    if not isinstance(plain, dict):
        raise BadPacket("this is no object")
    if plain.get("version") != VERSION:
        raise BadPacket(
            f"version={plain.get('version')!r} of the protocol; this side speaks {VERSION}"
        )
    return plain
