"""Classify errors of Redis: is the remedy a new connection, another URL, or a person?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)

# Errors from inside a script, and codes that redis-py does not know, have the code in the text.
_REPLICA: Final = ("READONLY", "MASTERDOWN", "The previous master is now a slave")
_OUT_OF_OFFICE: Final = ("NOREPLICAS", "MISCONF", "NOAUTH")
_IN_A_SCRIPT: Final = ("The user executing the script can't",)
_CLUSTER: Final = ("MOVED ", "CROSSSLOT", "CLUSTERDOWN", "in cluster mode", "non local key")


@dataclass(frozen=True)
class Diagnosis:
    """How an error is logged, and whether waiting may help."""

    level: str
    text: str
    needs_person: bool = False  # waiting does not help
    kind: str = ""  # for errors that are logged with a remedy: the remedy is logged once
    brief: str = ""  # the text without the remedy


def is_refusal(error: BaseException) -> bool:
    """Whether the login or the rights are refused: Redis is there, but not for this user."""
    refusals = (AuthenticationError, AuthorizationError, NoPermissionError)
    return isinstance(error, refusals) or "NOAUTH" in str(error)


def is_of_a_replica(error: BaseException) -> bool:
    """Whether a server takes no writes, since it is not the master."""
    return isinstance(error, ReadOnlyError | MasterDownError) or _has(error, _REPLICA)


def is_of_a_cluster(error: BaseException) -> bool:
    """Whether a server has only some of the keys. RQ needs all keys on one server."""
    if isinstance(error, MasterDownError):  # a kind of ClusterDownError to redis-py
        return False
    kinds = AskError | ClusterCrossSlotError | ClusterDownError
    return isinstance(error, kinds) or _has(error, _CLUSTER)


def is_cured_by_connecting(error: BaseException) -> bool:
    """Whether a new connection may lead to a server that accepts the command: after a failover the
    name has another address, after a change of password the login must be repeated."""
    return (
        is_of_a_replica(error)
        or is_of_a_cluster(error)
        or isinstance(error, AuthenticationError)
        or _has(error, _OUT_OF_OFFICE)
    )


def diagnose(error: BaseException) -> Diagnosis:
    """How to log an error reply, or a missing reply."""
    text = " ".join(str(error).split()) or type(error).__name__
    if is_of_a_cluster(error):
        return Diagnosis(
            "ERROR",
            f"refuses: {text}; it is a cluster, and RQ needs all keys on one server: give the"
            " URL of a server that is not part of a cluster",
            needs_person=True,
            kind="cluster",
            brief=f"refuses: {text}; trying again",
        )
    if is_of_a_replica(error):
        return Diagnosis(
            "WARNING",
            f"refuses: {text}; it is a replica: connecting again until the name leads to the"
            " master. If it never does, give the master's URL, or that of the sentinels:"
            " redis+sentinel://HOST:PORT/SERVICE",
            kind="replica",
            brief=f"refuses: {text}; trying again",
        )
    if is_refusal(error):
        return Diagnosis(
            "ERROR", f"refuses access: {text}; correct the URL or the ACL", needs_person=True
        )
    if _has(error, _IN_A_SCRIPT):  # of Redis before 7.2, which does not say which command
        return Diagnosis(
            "ERROR",
            f"refuses access: {text}; ACL LOG of the server names the command or key: correct the"
            " ACL",
            needs_person=True,
        )
    if isinstance(error, ResponseError):
        return Diagnosis("WARNING", f"refuses: {text}; trying again")
    return Diagnosis("WARNING", f"does not answer: {text}; trying again")


def _has(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error)
    return any(word in text for word in words)
