"""What a job's function is called, found out without unpickling anything: that can run anything."""

from __future__ import annotations

import pickle
import pickletools
from typing import Final

from rq.job import UNEVALUATED, Job

_LONGEST_NAME: Final = 200  # characters of a function's name that are shown


def function_of(job: Job) -> str:
    """The dotted name of the job's function, for people; `?` if it cannot be told.

    Nothing is unpickled for it: that can run anything, so it is left to the job's own time.
    """
    try:
        pickled = job.serializer.loads is pickle.loads
        name = _peek(job.data) if pickled else job.func_name
    except Exception:
        name = "?"
    return str(name)[:_LONGEST_NAME].encode(errors="replace").decode()


def _peek(data: bytes) -> str:
    """The first text in a pickle: that is the function's name in what RQ writes."""
    # Protocol 4 or 5, a frame, a mark, a short text: nearly all.
    if data[:1] == b"\x80" and data[2:3] == b"\x95" and data[11:13] == b"(\x8c":
        return data[14 : 14 + data[13]].decode()
    return next((arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)), "?")


def seal(job: Job) -> None:
    """Have nobody unpickle again what could not be: it failed, and its time is over."""
    if job._func_name is UNEVALUATED:
        name = function_of(job)
        job._func_name = name if name != "?" else "<DeserializationError>"  # RQ's word for it
        job._instance, job._args, job._kwargs = None, (), {}


def unseal(job: Job) -> None:
    """Let it be unpickled again, in a process that may come to harm."""
    job._func_name = job._instance = job._args = job._kwargs = UNEVALUATED
