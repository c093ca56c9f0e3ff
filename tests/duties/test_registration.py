"""What plugins may add with `duties.add`, and where a mistake is told."""

from __future__ import annotations

import functools
import math

import pytest

from harness.command import run
from harness.duties import all_of, duties_file
from harness.waiting import stays_true, wait_for
from resqued.duties.definition import Once
from resqued.duties.registrations import Registrations
from resqued.plugins.errors import place_of
from resqued.testing import FakeDuties, make_duty


def archive(duty: object) -> None:
    pass


async def coroutine(duty: object) -> None:
    pass


def generator(duty: object):
    yield


class Archiver:
    def __call__(self, duty: object) -> None:
        pass

    def archive(self, duty: object) -> None:
        pass


def added(name: object = "archive", function: object = archive, **more: object) -> Registrations:
    registrations = Registrations()
    registrations.handed_to("shop").add(name, function, **{"every": 60, **more})
    return registrations


@pytest.mark.parametrize(
    "function",
    [
        archive,
        Archiver(),
        Archiver().archive,
        functools.partial(print, 1),
        print,
        lambda duty: None,
    ],
)
def test_anything_that_can_be_called_with_one_argument_is_taken(function):
    registrations = added(function=function, every=0.5, once="fleet", limit=1)
    (definition,) = registrations.definitions
    assert registrations.problems == []
    assert (definition.name, definition.plugin, definition.every) == ("archive", "shop", 0.5)
    assert definition.once is Once.FLEET


WRONG = {
    "no text": ({"name": 3}, "its name must be text"),
    "an empty name": ({"name": " "}, "its name must be text, and not empty"),
    "a name that is not printable": ({"name": "a\nb"}, "its name must be printable"),
    "a long name": ({"name": "x" * 101}, "at most 100 characters"),
    "no function": ({"function": "shop.archive"}, "'shop.archive' cannot be called; give a funct"),
    "an async function": ({"function": coroutine}, "is async, and nothing would await it"),
    "a generator function": ({"function": generator}, "of which nothing would run"),
    "too few arguments": ({"function": lambda: None}, "cannot be called with one argument"),
    "too many arguments": ({"function": lambda a, b: None}, "with one argument, the duty"),
    "never": ({"every": 0}, "every=0 is no number of seconds above 0"),
    "less than never": ({"every": -1}, "every=-1 is no number of seconds"),
    "a word for a number": ({"every": "60"}, "every='60' is no number"),
    "a truth for a number": ({"every": True}, "every=True is no number"),
    "for ever": ({"every": math.inf}, "every=inf is no number"),
    "no number": ({"limit": math.nan}, "limit=nan is no number of seconds above 0"),
    "no limit": ({"limit": None}, "limit=None is no number of seconds above 0, such as limit=60"),
    "another word": ({"once": "host"}, 'once=\'host\' is not "arbiter" or "fleet"'),
    "no word": ({"once": None}, 'once=None is not "arbiter" or "fleet"'),
}


@pytest.mark.parametrize(("changes", "text"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_place(changes, text):
    registrations = added(**changes)
    (problem,) = registrations.problems
    assert text in problem.text
    name = changes.get("name", "archive")
    line = place_of(added).rsplit(":", 1)[0]
    assert problem.text.startswith(f"hook duties: plugin 'shop' ({line}:")
    assert f"duty {name!r}: " in problem.text
    assert registrations.definitions == ()


def test_two_duties_of_one_name_are_refused_with_both_places():
    registrations = added()
    registrations.handed_to("stock").add("archive", archive, every=1)
    (problem,) = registrations.problems
    assert "hook duties: plugin 'stock' (" in problem.text
    assert "duty 'archive': plugin 'shop' has added a duty of this name (" in problem.text
    assert len(registrations.definitions) == 1


BAD = duties_file(
    """
    def duties(duties):
        duties.add("one", None, every=0)
        duties.add("two", lambda duty: None, every=1, once="host")
        duties.add("three", say, every=1)
        duties.add("three", say, every=1)
    """
)
PROBLEMS = (
    "hook duties: plugin 'resqued.conf.py' (resqued.conf.py:12): duty 'one': None cannot be called",
    "(resqued.conf.py:12): duty 'one': every=0 is no number of seconds above 0, such as every=60",
    "(resqued.conf.py:13): duty 'two': once='host' is not \"arbiter\" or \"fleet\"",
    "(resqued.conf.py:15): duty 'three': plugin 'resqued.conf.py' has added a duty of this name"
    " (resqued.conf.py:14); choose another",
)


def test_all_that_is_wrong_refuses_a_start(resqued):
    arbiter = resqued(config=BAD, expect_errors="duties|duty|gen=1|giving up")
    assert arbiter.exit(20) == 78
    for text in PROBLEMS:
        assert text in arbiter.log()


def test_all_that_is_wrong_refuses_a_check(tmp_path, valkey):
    (tmp_path / "resqued.conf.py").write_text(BAD)
    code, _, err = run("--check", cwd=tmp_path, RQ_REDIS_URL=valkey.url)
    assert code == 78
    for text in PROBLEMS:
        assert text in err


def test_a_check_tells_what_the_hook_raises(tmp_path, valkey):
    (tmp_path / "resqued.conf.py").write_text("def duties(duties): 1 / 0")
    code, _, err = run("--check", cwd=tmp_path, RQ_REDIS_URL=valkey.url)
    assert code == 78
    assert "hook duties: plugin 'resqued.conf.py' raised ZeroDivisionError" in err


def test_a_check_calls_no_duty(tmp_path, valkey):
    text = """
    def duties(duties):
        duties.add("say", lambda duty: say("called"), every=1)
    """
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "resqued.conf.py").write_text(duties_file(text))
    code, _, err = run("--check", cwd=folder, RQ_REDIS_URL=valkey.url)
    assert (code, err) == (0, "")
    assert not (tmp_path / "calls").exists()


def test_a_reload_that_is_refused_leaves_the_old_duties(resqued, calls):
    text = """
    def duties(duties):
        duties.add("say", lambda duty: say("called"), every=0.1)
    """
    arbiter = resqued(config=duties_file(text), expect_errors="duties|duty|gen=2|reload failed")
    wait_for(calls)
    (process,) = all_of(arbiter)
    (arbiter.directory / "resqued.conf.py").write_text(BAD)
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed, gen=1 stays in service")
    for text in PROBLEMS:
        assert text in arbiter.log()
    seen = len(calls())
    wait_for(lambda: len(calls()) > seen + 2)
    stays_true(lambda: [each.pid for each in all_of(arbiter)] == [process.pid], 0.5, "it stays")


def test_the_stand_in_of_tests_refuses_the_same():
    duties = FakeDuties()
    duties.add("archive", archive, every=60)
    assert duties.added["archive"].function is archive
    with pytest.raises(ValueError, match="every=0 is no number of seconds"):
        duties.add("other", archive, every=0)
    assert list(duties.added) == ["archive"]
    assert make_duty(token=3).token == 3
