"""The seam with RQ and redis-py: that the names of theirs that resqued relies on are as it knows.

The uses are found in the sources (`harness/seam.py`) and judged by the versions that are installed;
nothing is connected to. `seam.toml` has what a source cannot say: the values of their constants,
and the text of their methods that resqued replaces.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import Connection
from rq import Queue
from rq.job import Job
from rq.worker import BaseWorker

from harness.seam import Finder, Use, full_name, instance_attributes, their_class
from resqued.broker import outcome
from resqued.broker.strict import _Strict

HERE = Path(__file__).parent
TABLE = tomllib.loads((HERE / "seam.toml").read_text())
ROOMS = tomllib.loads((HERE / "layers.toml").read_text())["packages"]["rq"]

MIXED = {_Strict: Connection}
"""Classes that are put before one of theirs only at run time."""

LANGUAGE = {"__module__", "__doc__", "__annotations__", "__firstlineno__", "__static_attributes__"}


@cache
def modules() -> dict[str, str]:
    """The sources of the rooms that may import RQ, by the modules' dotted names."""
    root = HERE.parent
    found = {}
    for path in (root / "resqued").rglob("*.py"):
        if path.relative_to(root / "resqued").parts[0] in ROOMS:
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


@cache
def finders() -> list[Finder]:
    return [Finder(name, source) for name, source in modules().items()]


def uses() -> list[Use]:
    return [use for finder in finders() for use in finder.uses]


def there(use: Use) -> bool:
    """Whether the name is there, on the class or module, or set by a method on `self`."""
    if not use.name or hasattr(use.owner, use.name):
        return True
    return inspect.isclass(use.owner) and use.name in instance_attributes(use.owner)


def misfit(function: Callable[..., Any], args: int, keywords: list[str]) -> str:
    """Why a function cannot be called with so many positional arguments and these keywords."""
    try:
        inspect.signature(function).bind(*range(args), **dict.fromkeys(keywords))
    except TypeError as error:
        return f"{error}: its parameters are {inspect.signature(function)}"
    except ValueError:  # an exception class without an __init__ has no signature
        return ""
    return ""


def misfit_of_call(use: Use) -> str:
    """Why a call in the sources cannot be made; nothing if it can, or passes `*args` on."""
    called = getattr(use.owner, use.name, None) if use.name else use.owner
    call = use.call
    if call is None or not callable(called):
        return ""
    keywords = [each.arg for each in call.keywords]
    if None in keywords or any(isinstance(each, ast.Starred) for each in call.args):
        return ""
    method = inspect.isclass(use.owner) and use.bound and inspect.isfunction(called)
    return misfit(called, len(call.args) + method, keywords)


def test_every_name_of_theirs_that_is_used_is_there():
    """Each import from RQ or redis-py, and each attribute of their objects, private ones too."""
    assert len(uses()) > 1000, "the finder has gone blind"
    optional = set(TABLE["optional"])
    assert optional <= {f"{full_name(use.owner)}.{use.name}" for use in uses()}
    gone = [use for use in uses() if not there(use)]
    gone = [str(use) for use in gone if f"{full_name(use.owner)}.{use.name}" not in optional]
    assert not gone, "\n".join(gone)


def test_every_call_of_theirs_fits_their_signature():
    """Each call with its number of positional arguments and its keywords."""
    called = [use for use in uses() if use.call is not None]
    assert len(called) > 300, "the finder has gone blind"
    wrong = [f"{use}: {text}" for use in called if (text := misfit_of_call(use))]
    assert not wrong, "\n".join(wrong)


def test_no_private_name_of_theirs_escapes_the_finder():
    """A private name of a value whose type the finder does not know is resqued's own, or is listed
    in `seam.toml` as somebody else's. So every private name of RQ's and redis-py's is judged."""
    own = {
        getattr(node, "attr", None) or getattr(node, "name", None) or getattr(node, "id", None)
        for source in modules().values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        or (isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store))
    }
    others = set(TABLE["others"])
    unknown = [use for finder in finders() for use in finder.unknown]
    escaped = [use.where for use in unknown if use.name not in own | others]
    assert not escaped, "\n".join(escaped)
    assert others <= {use.name for use in unknown}, "listed in [others], and not used"


# -- overrides


def overriding() -> Iterator[tuple[type, type, str, Any]]:
    """For each class derived from one of theirs: it, theirs, and each name in it with its value."""
    for name in modules():
        for cls in list(vars(importlib.import_module(name)).values()):
            if not inspect.isclass(cls) or cls.__module__ != name:
                continue
            if theirs := MIXED.get(cls) or their_class(cls):
                for attribute, value in vars(cls).items():
                    if attribute not in LANGUAGE:
                        yield cls, theirs, attribute, value


def test_what_overrides_a_name_of_theirs_still_does():
    """Each name in a class derived from one of theirs is there too, unless `seam.toml` says that
    it is resqued's own. A method that RQ has renamed would never be called."""
    own = {
        f"{cls.__qualname__}.{name}"
        for cls, theirs, name, _ in overriding()
        if not hasattr(theirs, name)
    }
    assert own == set(TABLE["own"])


def misfit_of_override(ours: Callable[..., Any], theirs: Callable[..., Any]) -> str:
    """Why a method cannot stand in for another: it must take all arguments of the other by
    position as well as by name, may not demand more, and has the same defaults."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    every = inspect.signature(theirs).parameters.values()
    taken = inspect.signature(ours).parameters
    named = [each for each in every if each.kind not in variable]
    places = [each for each in named if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    demanded = [each for each in named if each.default is inspect.Parameter.empty]
    for args, keywords in (
        (len(places), [each.name for each in named if each not in places]),
        (1, [each.name for each in named[1:]]),
        (1, [each.name for each in demanded[1:]]),
    ):
        if text := misfit(ours, args, keywords):
            return text
    for each in named:
        mine = taken.get(each.name)
        if mine is not None and mine.default != each.default:
            return f"the default of {each.name} is {each.default!r} there and {mine.default!r} here"
    return ""


def test_every_override_can_stand_in_for_what_it_overrides():
    """Same kind (method, property, attribute), and a signature that takes every call that theirs
    takes."""
    wrong, judged = [], 0
    for cls, theirs, name, ours in overriding():
        original = inspect.getattr_static(theirs, name, None)
        if original is None or name == "__init__":
            continue
        label = f"{cls.__qualname__}.{name} over {full_name(theirs)}.{name}"
        if inspect.isfunction(ours) and inspect.isfunction(original):
            judged += 1
            if text := misfit_of_override(ours, original):
                wrong.append(f"{label}: {text}")
        elif type(ours) is not type(original) and not inspect.isclass(ours):
            wrong.append(f"{label}: {type(ours).__name__} over {type(original).__name__}")
    assert judged > 40
    assert not wrong, "\n".join(wrong)


# -- what `seam.toml` records


def constants() -> dict[str, Any]:
    """The constants of theirs that are used: texts, numbers, patterns and members of an enum."""
    found = {}
    for use in uses():
        value = getattr(use.owner, use.name, None) if use.name else None
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, re.Pattern):
            value = value.pattern
        if isinstance(value, str | int | float) and not use.name.startswith("__"):
            found[f"{full_name(use.owner)}.{use.name}"] = value
    return {name: found[name] for name in sorted(found.keys() - {"rq.version.VERSION"})}


def test_their_constants_have_the_values_that_are_known():
    """Key formats, states and defaults, which scripts in Lua and other releases rely on too."""
    assert constants() == TABLE["constants"]


def replaced() -> set[str]:
    """RQ's methods that resqued overrides without calling them by `super()`."""
    found = set()
    for _, theirs, name, ours in overriding():
        function = ours.fget if isinstance(ours, property) else ours
        if not hasattr(theirs, name) or not inspect.isfunction(function):
            continue
        calls = re.search(rf"(super\(\)|parent)\.{name}\b", inspect.getsource(function))
        owner = next(each for each in theirs.__mro__ if name in vars(each))
        if not calls and owner.__module__.startswith("rq."):
            found.add(f"{full_name(owner)}.{name}")
    return found


def digest(name: str) -> str:
    """Of the source of `package.module.Class.method`, as far as the start tells it from others."""
    module, cls, method = name.rsplit(".", 2)
    function = inspect.getattr_static(getattr(importlib.import_module(module), cls), method)
    function = getattr(function, "__func__", None) or getattr(function, "fget", None) or function
    text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_the_text_of_what_is_replaced_is_the_one_that_was_read():
    """RQ's methods that resqued replaces, or whose writes it reproduces. Where one has changed:
    compare the two versions, change resqued if need be, and add the digest to `seam.toml`."""
    table = TABLE["replaced"] | TABLE["reproduced"]
    assert replaced() == TABLE["replaced"].keys()
    changed = {name: digest(name) for name, known in table.items() if digest(name) not in known}
    assert not changed


def test_what_is_named_in_strings_is_there():
    """The names in tables of the sources, which the finder does not see."""
    assert all(hasattr(Job, name) for name in outcome._METHODS)
    assert not outcome._NEWLY - instance_attributes(Job) - {"perform", "_execute"}


def test_keys_have_the_form_that_is_known():
    """The keys that RQ's objects make, where resqued or its scripts make the same by themselves."""
    assert Job.key_for("J") == "rq:job:J"
    client = redis.Redis()  # which does not connect before it is asked for something
    assert Job("J", connection=client).dependents_key == "rq:job:J:dependents"
    queue = Queue("Q", connection=client)
    assert queue.key == "rq:queue:Q"
    assert queue.intermediate_queue_key == "rq:queue:Q:intermediate"
    assert BaseWorker.redis_worker_namespace_prefix + "W" == "rq:worker:W"
    assert queue.started_job_registry.key == "rq:wip:Q"
    assert queue.finished_job_registry.key == "rq:finished:Q"
    assert queue.failed_job_registry.key == "rq:failed:Q"
    assert queue.scheduled_job_registry.key == "rq:scheduled:Q"
    assert queue.deferred_job_registry.key == "rq:deferred:Q"
    assert queue.canceled_job_registry.key == "rq:canceled:Q"


# -- that the tests above see what they should

SAMPLE = """
from typing import Any
from rq.job import Job, NoSuchThing
from rq.utils import now

class Ours:
    def __init__(self, job: Any, parcel: Parcel) -> None:
        self._job = job
        self._parcel = parcel

    def work(self, one: Job | None, worker: Wrapped) -> None:
        now(1)
        one._gone()
        self._job.save(pipelin=None)
        self._job.id
        worker.no_job
        self._parcel._secret
"""


def test_the_finder_knows_types_by_import_annotation_and_name():
    """In a made-up module: names that are not there, calls that do not fit, and other people's."""
    finder = Finder("resqued.broker.outcome", SAMPLE)
    assert [f"{full_name(use.owner)}.{use.name}" for use in finder.uses if not there(use)] == [
        "rq.job.NoSuchThing",
        "rq.job.Job._gone",
    ]
    assert [use.name for use in finder.uses if misfit_of_call(use)] == ["", "save"]
    assert not [use for use in finder.uses if use.name in ("no_job", "_secret")]


@pytest.mark.parametrize(
    ("ours", "fits"),
    [
        (lambda self, job, queue, at=1: None, True),
        (lambda self, *args, **kwargs: None, True),
        (lambda self, job, *args, **kwargs: None, True),
        (lambda self, job, queue, at=2: None, False),
        (lambda self, queue, job, at=1: None, True),  # no call can tell
        (lambda self, job, line, at=1: None, False),
        (lambda self, job: None, False),
        (lambda self, job, queue, at=1, *, more: None, False),
    ],
)
def test_an_override_that_cannot_stand_in_is_found(ours: Callable[..., None], fits: bool):
    """Against a made-up method of theirs."""

    def theirs(self: object, job: object, queue: object, at: int = 1) -> None: ...

    assert (not misfit_of_override(ours, theirs)) is fits
