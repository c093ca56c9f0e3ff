"""What Redis has against us, and what helps: a new connection, another URL, or a person."""

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

# ChildMain of a script the server, and for codes that it does not know redis-py, leaves the code
# of an error in its text.
_REPLICA: Final = ("READONLY", "MASTERDOWN", "The previous master is now a slave")
_OUT_OF_OFFICE: Final = ("NOREPLICAS", "MISCONF", "NOAUTH")
_CLUSTER: Final = ("MOVED ", "CROSSSLOT", "CLUSTERDOWN", "in cluster mode", "non local key")


@dataclass(frozen=True)
class Diagnosis:
    """How an error is told, and whether time may cure it."""

    level: str
    text: str
    for_a_person: bool = False  # trying again soon is of no use
    kind: str = ""  # of those that are told with a remedy: once, not every minute again
    brief: str = ""  # what is told of it when the remedy has been told


def is_refusal(error: BaseException) -> bool:
    """Wrong password, missing rights: Redis is there, but not for us."""
    refusals = (AuthenticationError, AuthorizationError, NoPermissionError)
    return isinstance(error, refusals) or "NOAUTH" in str(error)


def is_of_a_replica(error: BaseException) -> bool:
    """A server that takes no writes, since another one is the master."""
    return isinstance(error, ReadOnlyError | MasterDownError) or _has(error, _REPLICA)


def is_of_a_cluster(error: BaseException) -> bool:
    """A server that has only some of the keys. RQ needs them all in one place."""
    if isinstance(error, MasterDownError):  # a kind of ClusterDownError to redis-py
        return False
    kinds = AskError | ClusterCrossSlotError | ClusterDownError
    return isinstance(error, kinds) or _has(error, _CLUSTER)


def is_cured_by_connecting(error: BaseException) -> bool:
    """Whether the same name may lead to a server that does not refuse this: after a failover the
    name has another address, after a change of the password the old login is no longer good."""
    return (
        is_of_a_replica(error)
        or is_of_a_cluster(error)
        or isinstance(error, AuthenticationError)
        or _has(error, _OUT_OF_OFFICE)
    )


def diagnose(error: BaseException) -> Diagnosis:
    """What to tell of an error that Redis answered with, or of an answer that has not come."""
    text = " ".join(str(error).split()) or type(error).__name__
    if is_of_a_cluster(error):
        return Diagnosis(
            "ERROR",
            f"refuses: {text}; it is a cluster, and RQ needs all keys on one server: give the"
            " URL of a server that is not part of a cluster",
            for_a_person=True,
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
            "ERROR", f"refuses us: {text}; correct the URL or the ACL", for_a_person=True
        )
    if isinstance(error, ResponseError):
        return Diagnosis("WARNING", f"refuses: {text}; trying again")
    return Diagnosis("WARNING", f"does not answer: {text}; trying again")


def _has(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error)
    return any(word in text for word in words)
