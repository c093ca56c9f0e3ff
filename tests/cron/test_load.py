"""What `--cron` names is imported, and everything that it registers is taken or told."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from rq import cron as rq_cron

from resqued.cron import register, registrations
from resqued.cron.load import BadCron, load, unserved
from resqued.cron.misfire import Misfire


def test_a_file_for_rq_cron_as_it_is(folder):
    one, two, three = folder.load(
        """
        cron.register(clean, queue_name='default', interval=60)
        cron.register(clean, 'low', args=(30,), kwargs={'deep': True}, cron='0 3 * * *',
            job_timeout=180, result_ttl=500, ttl=600, failure_ttl=-1, meta={'team': 'ops'},
            name='x')
        cron.register(report, 'low', interval=0, cron='*/5 * * * *', webhooks=[])
        """
    )
    assert (one.name, one.function, one.queue) == ("tasks_of_test.clean",) * 2 + ("default",)
    assert (one.interval, one.cron, one.of_rq) == (60.0, None, True)
    assert one.options == {"result_ttl": 500}, "RQ's own default"
    assert (one.misfire, one.overlap, one.enabled, one.jitter) == (Misfire.ONCE, True, True, 0.0)
    assert (two.args, two.kwargs, two.name) == ((30,), {"deep": True}, "x")
    assert two.options == {
        "job_timeout": 180,
        "result_ttl": 500,
        "ttl": 600,
        "failure_ttl": -1,
        "meta": {"team": "ops"},
    }
    assert (three.interval, three.cron) == (None, "*/5 * * * *")
    assert "webhooks" not in three.options
    assert [each.place for each in (one, two)] == ["jobs_of_test.py:7", "jobs_of_test.py:8"]


def test_several_of_rq_may_share_a_name_and_equal_ones_may_not(folder):
    found = folder.load(
        """
        cron.register(clean, 'default', interval=60)
        cron.register(clean, 'default', interval=61)
        cron.register(clean, 'low', interval=60)
        cron.register(clean, 'default', args=(1,), interval=60)
        cron.register(clean, 'default', cron='* * * * *')
        cron.register(report, 'default', interval=60, name='tasks_of_test.clean')
        """
    )
    assert {each.name for each in found} == {"tasks_of_test.clean"}
    assert len({each.key for each in found}) == 6


def test_equal_ones_of_rq_and_one_name_twice_are_refused(refused):
    assert refused(
        """
        cron.register(clean, 'default', interval=60)
        cron.register(clean, 'default', interval=60, result_ttl=1)
        register(clean, 'default', interval=60)
        register(clean, 'low', interval=90)
        """
    ) == [
        "jobs_of_test.py:8: cron job 'tasks_of_test.clean' is registered at jobs_of_test.py:7"
        " already, with the same function, arguments, queue and schedule; take one away, or give"
        " it another name",
        "jobs_of_test.py:10: cron job 'tasks_of_test.clean' has the name of the one registered at"
        " jobs_of_test.py:9; give it another: name='...'",
    ]


def test_what_resqued_registers(folder):
    one, two, three = folder.load(
        """
        register(clean, 'default', [1], {'deep': True}, cron=' 0 3  * * * ',
            timezone='Europe/Berlin', name='a name: with blanks',
            misfire='all', grace=90, overlap='skip', jitter=5, enabled=False,
            job_timeout='1h', result_ttl=-1, ttl='10m', failure_ttl=0, meta={'a': 1},
            retry=Retry(2, 10), at_front=True, on_success=report, on_failure='tasks_of_test.report',
            on_stopped=Callback(report, timeout=5), description='it cleans',
            webhooks=[Webhook('http://localhost', 'failed')])
        register('tasks_of_test.clean', 'default', interval=1.5)
        register(clean, 'default', interval=60, name='plain', at_front=False, meta={}, webhooks=())
        """
    )
    assert one.key == one.name == "a name: with blanks"
    assert (one.args, one.kwargs, one.cron) == ((1,), {"deep": True}, "0 3 * * *")
    assert (one.timezone, one.misfire, one.grace) == ("Europe/Berlin", Misfire.ALL, 90.0)
    assert (one.overlap, one.jitter, one.enabled) == (False, 5.0, False)
    options = dict(one.options)
    assert [options.pop(each).name for each in ("on_success", "on_failure", "on_stopped")] == [
        "tasks_of_test.report"
    ] * 3
    assert (options.pop("retry").max, options.pop("webhooks")[0].url) == (2, "http://localhost")
    assert options == {
        "job_timeout": 3600,
        "result_ttl": -1,
        "ttl": 600,
        "failure_ttl": 0,
        "meta": {"a": 1},
        "at_front": True,
        "description": "it cleans",
    }
    assert (two.name, two.function, two.interval) == ("tasks_of_test.clean",) * 2 + (1.5,)
    assert three.options == {}


def test_methods_as_rq_takes_them(folder):
    bound, of_class, static, callable_object = folder.load(
        """
        register(Store('a').sweep, 'default', interval=60)
        register(Store.sweep_all, 'default', interval=60)
        register(Store.sweep_none, 'default', interval=60)
        register(Store('a'), 'default', interval=60)
        """
    )
    assert (bound.name, bound.function, bound.instance.name) == (
        "tasks_of_test.Store.sweep",
        "sweep",
        "a",
    )
    assert (of_class.function, of_class.instance.__name__) == ("sweep_all", "Store")
    assert (static.function, static.instance) == ("tasks_of_test.Store.sweep_none", None)
    assert callable_object.function == "__call__"


SCHEDULE = "it has no schedule; give interval=SECONDS or cron='0 3 * * *'"
DURATION = "no duration; write seconds, at least"

WRONG = {
    "cron='61 * * * *'": "cron expression '61 * * * *': [61 * * * *] is not acceptable",
    "cron='0 0 30 2 *'": "cron expression '0 0 30 2 *' never comes",
    "cron='0 0 * *'": "has 4 fields; write five, '0 3 * * *', or a sixth for seconds",
    "cron=''": "has 0 fields; write five",
    "cron='@reboot'": "cron expression '@reboot' is none of @annually, @daily",
    "cron='H * * * *'": "H is a value that nobody chooses; write a number",
    "cron='0 R * * *'": "R is a value that nobody chooses; write a number",
    "cron='0 r(1-5)/2 * * *'": "r is a value that nobody chooses",
    "cron=5": "cron=5 is not text; write '0 3 * * *'",
    "": SCHEDULE,
    "interval=5, cron='* * * * *'": "it has interval=5 and cron='* * * * *'; take one away",
    "interval=0": "interval=0 is too short; at least 1 seconds",
    "interval=-5": "interval=-5 is too short",
    "interval=float('nan')": "interval=nan is not a number of seconds",
    "interval=float('inf')": "interval=inf is too long",
    "interval=10**400": "is too long",
    "interval='60'": "interval='60' is not a number of seconds",
    "interval=True": "interval=True is not a number of seconds",
    "interval=9, timezone='Europe/Berln'": "is not known here; did you mean Europe/Berlin?",
    "interval=9, timezone='../../etc/passwd'": "is not known here",
    "interval=9, timezone='Europe'": "is not known here",
    "interval=9, timezone='localtime'": "zone 'localtime' is not the same everywhere",
    "interval=9, timezone=3": "timezone=3 is not the name of a zone",
    "interval=9, misfire='never'": "misfire='never' is none of 'once', 'skip', 'all'",
    "interval=9, misfire=[]": "misfire=[] is none of",
    "interval=9, overlap=False": "overlap=False is none of 'allow', 'skip'",
    "interval=9, grace=-1": "grace=-1 is too short",
    "interval=9, jitter=9": "jitter=9 is not below the shortest time between two ticks, 9 s",
    "cron='*/5 * * * *', jitter=300": "is not below the shortest time between two ticks, 300 s",
    "interval=9, jitter=-1": "jitter=-1 is too short",
    "interval=9, enabled='no'": "enabled='no' is neither True nor False",
    "interval=9, name=3": "name=3 is not text",
    "interval=9, name='a\\n'": "has control characters, or blanks at an end",
    "interval=9, name=' '": "has control characters, or blanks at an end",
    "interval=9, name='x' * 201": "name has 201 characters; at most 200",
    "interval=9, args='abc'": "args='abc' is not a tuple",
    "interval=9, kwargs=[1]": "kwargs=[1] is not a dict",
    "interval=9, kwargs={1: 2}": "kwargs={1: 2} is not a dict with names",
    "interval=9, args=(open,), meta={'a': lambda: 1}": "meta cannot be written with the serializer",
    "interval=9, args=(lambda: 1,)": "args and kwargs cannot be written with the serializer",
    "interval=9, job_timeout=0": "job_timeout: 0 is too short",
    "interval=9, job_timeout='soon'": f"job_timeout: 'soon' is {DURATION} 1",
    "interval=9, job_timeout=[]": f"job_timeout: [] is {DURATION} 1",
    "interval=9, job_timeout=10**12": "is too long; at most 315360000 seconds (ten years)",
    "interval=9, ttl=-1": "ttl: -1 is too short",
    "interval=9, ttl=True": f"ttl: True is {DURATION} 1",
    "interval=9, result_ttl=-2": "result_ttl: -2 is too short",
    "interval=9, failure_ttl='x'": f"failure_ttl: 'x' is {DURATION} 0",
    "interval=9, meta=[]": "meta: [] is not a dict",
    "interval=9, retry=3": "retry: 3 is not an rq.Retry; write Retry(max=3, interval=[10, 60])",
    "interval=9, at_front='yes'": "at_front: 'yes' is neither True nor False",
    "interval=9, on_success=3": "on_success: 3 is no callback",
    "interval=9, on_failure='tasks_of_test.gone'": "module 'tasks_of_test' has no 'gone'",
    "interval=9, on_stopped=lambda: 1": "is a lambda, and a worker imports functions by name",
    "interval=9, description=3": "description: 3 is not text",
    "interval=9, webhooks='http://a'": "webhooks: 'http://a' is not a list of rq.webhook.Webhook",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_argument(refused, arguments):
    [problem] = refused(f"register(clean, 'default', {arguments})")
    assert problem.startswith("jobs_of_test.py:6: ")
    assert WRONG[arguments] in problem


FUNCTIONS = {
    "lambda: 1": "jobs_of_test.<lambda> is a lambda",
    "nest()": "jobs_of_test.nest.<locals>.inner is defined in a function",
    "gone": "function 'jobs_of_test.gone' cannot be imported: module 'jobs_of_test' has no 'gone'",
    "main": "__main__.main is defined in the program that was started",
    "configured": "resqued_conf.configured is defined in the config file",
    "'tasks_of_test.gone'": "module 'tasks_of_test' has no 'gone'",
    "'tasks_of_test.gone.f'": "module 'tasks_of_test' has no 'gone'",
    "'tasks_of_test.no_function'": "'tasks_of_test.no_function' is a int and cannot be called",
    "'module_that_is_not.f'": "ModuleNotFoundError: No module named 'module_that_is_not'",
    "'broken_of_test.f'": "cannot be imported: ZeroDivisionError: division by zero",
    "'missing_of_test.f'": "cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
    "'leaving_of_test.f'": "cannot be imported: SystemExit: 3",
    "'clean'": "'clean' is not the dotted name of a function; write myapp.tasks.clean",
    "'a b.c'": "'a b.c' is not the dotted name of a function",
    "''": "'' is not the dotted name of a function",
    "None": "func=None is neither a function nor a dotted name",
    "Store": "is neither a function nor a dotted name",
    "3": "func=3 is neither a function nor a dotted name",
    "Local()": "args and kwargs cannot be written",
}

ODD = """
def nest():
    def inner(): pass
    return inner
def gone(): pass
function = gone
del gone
def main(): pass
main.__module__ = '__main__'
def configured(): pass
configured.__module__ = 'resqued_conf'
class Local:
    def __call__(self): pass
    def __reduce__(self): raise TypeError('it holds a socket')
"""


@pytest.mark.parametrize("func", FUNCTIONS)
def test_a_function_that_a_worker_could_not_import(folder, func):
    folder.write("broken_of_test.py", "1 / 0")
    folder.write("missing_of_test.py", "import nowhere")
    folder.write("leaving_of_test.py", "raise SystemExit(3)")
    given = "function" if func == "gone" else func
    [problem] = folder.refused(f"{ODD}\nregister({given}, 'default', interval=9)")
    assert FUNCTIONS[func] in problem


@pytest.mark.parametrize("queue", ["''", "3", "None", "'a,b'", "' a'", "'a\\n'"])
def test_a_queue_that_cannot_be(refused, queue):
    [problem] = refused(f"register(clean, {queue}, interval=9)")
    assert "queue" in problem


def test_all_errors_are_told_at_once(folder):
    folder.write("broken_of_test.py", "import tasks_of_test\n1 / 0")
    folder.write("leaving_of_test.py", "import sys\nsys.exit('no')")
    text = """
        register(clean, 'default', interval=0, misfire='x')
        cron.register(clean, 'default', cron='61 * * * *')
        """
    folder.refused(text)
    sys.modules.pop("jobs_of_test")
    sources = ["broken_of_test", "leaving_of_test", "jobs_of_test", "nowhere", "nowhere.py"]
    found = folder.refused(text, *sources, timezone="Mars/Olympus")
    wanted = [
        "--cron broken_of_test: its import failed: ZeroDivisionError: division by zero (broken_of",
        "--cron leaving_of_test: its import failed: SystemExit: no (leaving_of_test.py:2)",
        "--cron nowhere: there is no module 'nowhere' on the path; --path DIR is where",
        f"--cron nowhere.py: there is no file 'nowhere.py' in {folder.path}, nor on the path",
        "--cron-timezone: zone 'Mars/Olympus' is not known here",
        "jobs_of_test.py:7: cron job 'tasks_of_test.clean': interval=0 is too short",
        "jobs_of_test.py:7: cron job 'tasks_of_test.clean': misfire='x' is none of",
        "jobs_of_test.py:8: cron job 'tasks_of_test.clean': cron expression '61 * * * *'",
    ]
    assert len(found) == len(wanted)
    for problem, start in zip(found, wanted, strict=True):
        assert problem.startswith(start)


def test_of_thousands_of_errors_a_hundred_are_told(folder):
    with pytest.raises(BadCron) as error:
        folder.load("for n in range(3000): register(clean, 'default', name=f'{n}\\x07' * 300)")
    lines = str(error.value).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "... and 5900 more errors"
    assert max(map(len, lines)) < 600 and all(line.isprintable() for line in lines)


@pytest.mark.parametrize("call", ["register", "cron.register"])
def test_a_file_that_registers_in_a_loop(folder, call):
    [problem] = folder.refused(
        f"for n in range(100_000): {call}(clean, 'default', interval=60, name=str(n))"
    )
    assert "more than 10000 cron jobs are registered; is it done in a loop?" in problem


@pytest.mark.parametrize("call", ["register", "cron.register"])
def test_ten_thousand_jobs(folder, call):
    found = folder.load(
        f"for n in range(10_000): {call}(clean, 'default', cron='* * * * *', name=str(n))"
    )
    assert len({each.key for each in found}) == 10_000


@pytest.mark.parametrize(
    "argument, remedy",
    [
        ("intervall=3", "intervall: there is no such argument; did you mean interval?"),
        ("zzz=3", "zzz: there is no such argument; leave it out"),
        ("job_id='x'", "job_id: each job has an id of its own"),
        ("repeat=3", "repeat: a periodic job repeats by its schedule"),
        ("depends_on='x'", "depends_on: a periodic job waits for no other"),
        ("unique=True", "unique: write overlap='skip'"),
        ("rate_limit=3", "rate_limit: 3 is not an rq.RateLimit"),
    ],
)
def test_an_argument_that_is_not_taken(refused, argument, remedy):
    """Told with all other errors."""
    problems = refused(f"register(clean, 'default', interval=60, {argument}, name='a', jitter=-1)")
    assert any(remedy in problem for problem in problems)
    assert any("jitter" in problem for problem in problems)


def test_a_rate_limit(folder):
    [found] = folder.load(
        "import rq\nregister(clean, 'default', interval=60, rate_limit=rq.RateLimit('k', 2))"
    )
    assert found.options["rate_limit"].key == "k"


# -- which file is meant


def test_names_and_paths_of_one_module_are_one_module(folder):
    file = folder.write("pack/jobs.py", "import tasks_of_test\nfrom resqued.cron import register\n")
    file.write_text(file.read_text() + "register(tasks_of_test.clean, 'q', interval=9)\n")
    sources = ["pack.jobs", "pack/jobs.py", "./pack/jobs.py", "pack/jobs", str(file)]
    assert len(folder.load("", *sources)) == 1
    assert "pack.jobs" in sys.modules


def test_a_function_in_a_file_that_is_a_module_can_be_imported(folder):
    text = "from resqued.cron import register\ndef f(): pass\nregister(f, 'default', interval=60)\n"
    file = folder.write("pack/__init__.py", "") and folder.write("pack/more.py", text)
    [one] = folder.load("", str(file))
    assert one.function == "pack.more.f"


def test_a_file_with_a_hyphen_is_a_module_for_rq_and_workers_too(folder):
    text = "from rq import cron\ndef f(): pass\ncron.register(f, 'default', interval=60)\n"
    folder.write("cron-config.py", text)
    [one] = folder.load("", "cron-config.py")
    assert one.function == "cron-config.f"


def test_a_function_in_a_file_that_is_no_module_is_refused(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("etc") / "cron jobs.py"
    file.write_text(
        "from resqued.cron import register\ndef f(): pass\nregister(f, 'default', interval=60)\n"
        "register('tasks_of_test.clean', 'default', interval=60)\n"
    )
    [problem] = folder.refused("", str(file), str(file))
    assert "is defined in a file that is no module on the path, where a worker cannot" in problem


def test_such_a_file_may_register_functions_of_modules(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("etc") / "jobs"
    file.with_suffix(".py").write_text(
        "import rq.cron\nfrom tasks_of_test import clean\nrq.cron.register(clean, 'q', interval=9)"
    )
    assert len(folder.load("", str(file), f"{file}.py")) == 1


def test_the_file_in_the_working_directory_before_a_library_of_its_name(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path[1:], sys.path[0]])
    text = "from resqued.cron import register\nregister('tasks_of_test.clean', 'q', interval=9)"
    folder.write("croniter.py", text)
    assert len(folder.load("", "croniter.py")) == 1


def test_a_path_is_looked_for_in_the_folders_of_the_path_too(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    folder.write(
        "pack/jobs.py",
        "import rq.cron, tasks_of_test as t\nrq.cron.register(t.clean, 'q', cron='* * * * *')",
    )
    assert len(folder.load("", "pack/jobs.py")) == 1


@pytest.mark.parametrize("source", ["pack", "./pack", "pack/", "/nowhere/jobs.py", ".py", "/"])
def test_a_folder_is_no_file(folder, source):
    folder.write("pack/readme.txt", "")
    if source == "pack":
        assert folder.load("", source) == ()  # a package without code
    else:
        [problem] = folder.refused("", source)
        assert problem.startswith(f"--cron {source}: there is no ")


def test_an_empty_name(refused):
    assert refused("", "", " ") == [
        f"--cron {source}: it is empty; name a module, or a file that ends in .py"
        for source in ("", " ")
    ]


@pytest.mark.parametrize("source", ["a b", "...", ".jobs", "a..b", "\0.py", "pack:jobs", "jobs-1"])
def test_a_name_that_cannot_be(folder, source):
    [problem] = folder.refused("", source)
    assert problem.startswith("--cron ")


@pytest.mark.parametrize("source", [".", "...", ".jobs", "a..b"])
def test_a_name_with_nothing_between_its_dots(refused, source):
    assert refused("", source) == [
        f"--cron {source}: {source!r} is no name of a module; name one as myapp.cron, or a file as"
        " ./cron.py"
    ]


def test_a_module_hidden_by_another_is_named(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path[1:], sys.path[0]])
    folder.write("pytest_timeout.py", "")
    assert folder.load("", "pytest_timeout") == ()
    assert "module 'pytest_timeout' is taken from" in folder.warnings[0]


# -- when it is registered


def test_what_the_application_has_imported_before_counts_and_is_not_executed_again(folder):
    registrations.watch_rq()
    folder.write_jobs("cron.register(clean, 'q', interval=9)\nregister(clean, 'q', interval=9)")
    folder.write("app_of_test.py", "import jobs_of_test")
    importlib.import_module("app_of_test")
    assert [each.of_rq for each in folder.load()] == [True, False]


def test_registrations_of_rq_from_before_are_taken_over(folder, monkeypatch):
    monkeypatch.setattr(rq_cron, "_job_data_registry", [])
    [one] = folder.load(
        """
        import sys
        cron._job_data_registry.append(
            {'func': clean, 'queue_name': 'default', 'interval': 60, 'result_ttl': 500, 'name': ''})
        """
    )
    assert one.of_rq


def test_nothing_is_seen_by_the_next_load(folder):
    assert len(folder.load("register(clean, 'default', interval=60)")) == 1
    assert load(["jobs_of_test"]) == ()


def test_the_config_file_registers_nothing():
    with pytest.raises(RuntimeError, match="a config file registers no cron jobs, since the"):
        exec("register('a.b', 'c', interval=5)", {"__name__": "resqued_conf", "register": register})
    assert registrations.taken() == ()


# -- queues and serializers


def test_of_each_queue_that_is_not_served_there_is_one_warning(folder):
    found = folder.load(
        """
        for n in range(1000): register(clean, 'low', interval=60, name=f'job {n}')
        register(clean, 'high', interval=60)
        register(clean, 'other', interval=60, name='x')
        """
    )
    assert unserved(found, ["high", "*"]) == []
    low, other = unserved(found, ["high"])
    assert low.startswith("queue 'low', which is not served here, gets the cron jobs 'job 0',")
    assert low.endswith("... (1000) (served: high)")
    assert "gets the cron jobs 'x' (served: high)" in other


def test_a_serializer_that_is_not_there(folder):
    [problem] = folder.refused("register(clean, 'low', interval=60)", serializer="nowhere.X")
    assert problem.startswith("serializer 'nowhere.X' cannot be used: ")


def test_arguments_are_written_with_the_serializer_of_the_setting(folder):
    text = "register(clean, 'default', args=({1, 2},), interval=60)"
    assert len(folder.load(text)) == 1
    sys.modules.pop("jobs_of_test")
    [problem] = folder.refused(text, serializer="json")
    assert "TypeError: Object of type set is not JSON serializable" in problem
    sys.modules.pop("jobs_of_test")
    [problem] = folder.refused("register(Store('a').sweep, 'low', interval=60)", serializer="json")
    assert "not JSON serializable" in problem


def test_places_are_short_where_they_can_be(folder, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder.path.parent)])
    [one] = folder.load("register(clean, 'default', interval=60)")
    assert one.place == "jobs_of_test.py:6"
    assert Path(folder.path, "jobs_of_test.py").is_file()
