"""The table of settings: each is a field, a flag, a variable and a name in the config file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from resqued import kinds
from resqued.config import SETTINGS, Config
from resqued.cores import usable_cores
from resqued.kinds import Wrong
from resqued.settings.command_line import help_page, parse
from resqued.settings.options import OptionAdder
from resqued.settings.sources import Reading, Sources
from resqued.shares import parse_queue
from resqued_plugins import recycle

TABLE = dict(SETTINGS)
recycle.add_options(OptionAdder("recycle", TABLE, built_in=True))


def read_all(sources: Sources) -> Reading:
    reading = Reading()
    for setting in TABLE.values():
        reading.read(setting, sources)
    return reading


def test_every_field_of_the_configuration_is_a_setting():
    of_plugins = {"options", "option_plugins", "secret_options", "loaded_plugins"}
    assert set(SETTINGS) == {field.name for field in fields(Config)} - of_plugins


def test_what_only_the_recycling_obeys_is_declared_by_it():
    declared = {setting.name for setting in TABLE.values() if setting.plugin == "recycle"}
    assert declared == {"max_jobs", "max_memory", "max_threads", "max_age"}


def test_no_two_settings_share_a_flag():
    flags = [f for s in TABLE.values() for f in (*s.flags, s.off, *s.aliases) if f]
    assert len(flags) == len(set(flags))


def test_every_default_is_a_value_that_could_be_set():
    for setting in TABLE.values():
        assert setting.kind.take(setting.default) == setting.default, setting.name


PROMISED = """
    -n --workers --queue --redis -r --require --no-preload -c --config -p --plugin --no-autoload
    --pid -D --daemonize --log-file --log-format -v --verbose -q --quiet --on-term --grace
    --boot-timeout --kill-after --max-jobs --max-memory --max-age --burst -w --worker-class
    --job-class --queue-class --connection-class --serializer --path --exception-handler
    --no-scheduler --results-ttl --worker-ttl --maintenance-interval --dequeue-strategy --name
    --check --list-hooks --list-plugins --status --json --version --help
"""


@pytest.mark.parametrize("flag", PROMISED.split())
def test_a_flag_that_users_were_promised_is_in_the_help(flag):
    words = help_page(TABLE.values()).replace(",", " ").replace("[", " ").split()
    assert flag in words


GOOD = [
    # setting, flag's text or variable, config file's value, what it comes to
    ("workers", "4", 4, 4),
    ("max_jobs", "100", 100, 100),
    ("max_memory", "512M", "512M", 512 * 2**20),
    ("max_threads", "20", 20, 20),
    ("max_memory", "1.5g", 3 * 2**29, 3 * 2**29),
    ("max_memory", "none", None, None),
    ("grace", "0", 0, 0.0),
    ("grace", "2m", "2m", 120.0),
    ("max_age", "1.5", 1.5, 1.5),
    ("results_ttl", "-1", -1, -1),
    ("log_format", "json", "json", "json"),
    ("redis", "redis://:p%2Fw@host:6380/3", "redis://:p%2Fw@host:6380/3", None),
    ("redis", "unix://user:pw@/run/redis.sock?db=1", "unix:///run/redis.sock", None),
    ("redis", "rediss://[::1]:6379", "redis://", None),
    ("serializer", "json", "json", "json"),
    ("name", "mailer", "mailer", "mailer"),
    ("pid", "run/pid", Path("run/pid"), "run/pid"),
]


@pytest.mark.parametrize(("name", "text", "value", "expected"), GOOD)
def test_a_value_is_read_from_text_and_taken_from_python(name, text, value, expected):
    kind = TABLE[name].kind
    read, taken = kind.read(text), kind.take(value)
    if name == "redis":
        assert (read, taken) == (text, value)
    else:
        assert read == taken == expected
        assert type(read) is type(taken)


BAD_TEXT = [
    ("workers", "many", "write 4, or auto"),
    ("workers", "0", "at least 1"),
    ("max_workers", "0", "at least 1"),
    ("max_workers", "5000", "at most 4095"),
    ("workers", "5000", "at most 4095"),
    ("max_jobs", "1.5", "not a whole number"),
    ("max_memory", "5Q", "write bytes, or 512M"),
    ("max_memory", "0", "not a size"),
    ("grace", "-5", "0 or more"),
    ("grace", "nan", "not a duration"),
    ("boot_timeout", "0", "more than 0"),
    ("log_format", "xml", "text, json"),
    ("on_term", "later", "neither now nor drain"),
    ("require", "app.py", "--path"),
    ("require", "my-app", "name of a module"),
    ("worker_class", "Worker", "dotted name"),
    ("serializer", "yaml", "json, pickle"),
    ("name", "two words", "blanks"),
    ("name", "", "empty"),
    ("name", "x" * 81, "at most 80"),
    ("burst", "maybe", "write 1 or 0"),
    ("queues", "low=10 %%", "write 20, 10% or all"),
    ("queues", "low=200%", "between 0% and 100%"),
    ("queues", "=3", "needs a name"),
    ("queues", "low=-1", "write 20, 10% or all"),
]


@pytest.mark.parametrize(("name", "text", "told"), BAD_TEXT)
def test_text_that_cannot_be_is_refused_with_a_remedy(name, text, told):
    with pytest.raises(ValueError, match=r".") as caught:
        TABLE[name].kind.read(text)
    assert told in str(caught.value)


BAD_VALUES = [
    ("workers", True, "whole number"),
    ("workers", 2.0, "whole number"),
    ("max_memory", 1.5, "not a size"),
    ("grace", True, "number of seconds"),
    ("grace", float("inf"), "0 or more"),
    ("log_format", 3, "quotes"),
    ("require", "myapp", "write ['myapp']"),
    ("require", [int], "quotes"),
    ("worker_class", Config, "quotes"),
    ("burst", 1, "True nor False"),
    ("preload_app", "no", "True nor False"),
    ("pid", 3, "name of a file"),
    ("queues", "low", "not a dict"),
    ("queues", {"low": None}, "write 20, '10%', 0.10 or 'all'"),
    ("queues", {"low": float("nan")}, "write 20, '10%', 0.10 or 'all'"),
    ("queues", {3: "all"}, "quotes"),
    ("queues", {"low": -1}, "0 or more workers"),
    ("queues", {"": "all"}, "needs a name"),
]


@pytest.mark.parametrize(("name", "value", "told"), BAD_VALUES)
def test_a_python_value_that_cannot_be_is_refused_with_a_remedy(name, value, told):
    with pytest.raises(ValueError, match=r".") as caught:
        TABLE[name].kind.take(value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:se/cret@host:6379",
        "redis://:12/secret@host",
        "redis://:se#cret@host",
        "http://:secret@host",
        "secret@host",
        "redis://:secret@host:port",
        "redis://:secret@host:99999",
        "unix://:secret@run/socket",
    ],
)
def test_what_is_wrong_with_a_url_never_shows_its_password(url):
    with pytest.raises(ValueError, match=r".") as caught:
        kinds.REDIS.read(url)
    assert "cret" not in str(caught.value).replace("password", "")


def test_every_wrong_queue_is_told():
    with pytest.raises(Wrong) as caught:
        kinds.take_queues({"a": "200%", "b": 1, "c": True})
    assert len(caught.value.problems) == 2


def test_queues_are_the_same_from_a_variable_the_file_and_flags():
    written = ["critical", "high=20", "low=10%", "*"]
    expected = tuple(parse_queue(text) for text in written)
    in_file = {"critical": "all", "high": 20, "low": 0.10, "*": "all"}
    flags = parse([word for text in written for word in ("--queue", text)])
    variable = Sources(environ={"RESQUED_QUEUES": "critical, high=20,low=10%,*"})
    assert read_all(variable).values["queues"].value == expected
    assert read_all(Sources(flags.values)).values["queues"].value == expected
    assert kinds.take_queues(in_file) == kinds.take_queues(written) == expected


@pytest.mark.parametrize(
    ("word", "expected"), [("1", True), ("true", True), ("0", False), ("False", False)]
)
def test_a_switch_as_a_variable(word, expected):
    reading = read_all(Sources(environ={"RESQUED_BURST": word}))
    assert reading.values["burst"].value is expected


def test_flags_beat_variables_and_rqs_variables_are_only_a_default():
    environ = {"RQ_REDIS_URL": "redis://rq", "RQ_WORKER_CLASS": "rq.SimpleWorker"}
    reading = read_all(Sources(environ=environ))
    assert reading.values["redis"].value == "redis://rq"
    assert reading.values["worker_class"].value == "rq.SimpleWorker"
    environ["RESQUED_REDIS"] = "redis://ours"
    assert read_all(Sources(environ=environ)).values["redis"].value == "redis://ours"
    flags = parse(["--redis", "redis://flag"])
    reading = read_all(Sources(flags.values, environ))
    assert reading.values["redis"].value == "redis://flag"
    assert reading.values["redis"].source == "--redis"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["-n", "4"], "--workers: 4 workers are more than max_workers allows, 3 (--max-workers);"),
        (["-n", "3"], ""),
        (["-n", "auto"], ""),
    ],
)
def test_there_are_never_more_workers_than_the_most(flags, told, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    reading = read_all(Sources(parse([*flags, "--max-workers", "3"]).values))
    reading.check_together()
    assert [problem.text.startswith(told) for problem in reading.problems] == [True] * bool(told)
    assert told or reading.values["workers"].value == 3


def test_an_empty_variable_counts_as_none():
    reading = read_all(Sources(environ={"RESQUED_WORKERS": "", "RESQUED_QUEUES": ""}))
    assert not reading.problems
    assert reading.values["workers"].value == 1


def test_what_is_overridden_is_checked_all_the_same():
    flags = parse(["-n", "2", "--grace", "x"])
    reading = read_all(Sources(flags.values, {"RESQUED_WORKERS": "lots"}))
    assert [problem.text.split(":")[0] for problem in reading.problems] == [
        "RESQUED_WORKERS",
        "--grace",
    ]


def _group(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def _membership(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_auto_is_at_least_one_worker_and_at_most_the_cores_that_we_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert usable_cores(tmp_path) == 8  # no /proc, no quota
    _membership(tmp_path, "0::/app/web\n")
    _group(tmp_path, "app", {"cpu.max": "250000 100000\n"})
    _group(tmp_path, "app/web", {"cpu.max": "max 100000\n"})
    assert usable_cores(tmp_path) == 2
    _group(tmp_path, "app/web", {"cpu.max": "50000 100000\n"})
    assert usable_cores(tmp_path) == 1


def test_auto_obeys_the_quota_of_old_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    _membership(tmp_path, "4:memory:/x\n3:cpu,cpuacct:/not/seen/from/here\n")
    files = {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}
    _group(tmp_path, "cpu,cpuacct", files)
    assert usable_cores(tmp_path) == 3
    _group(tmp_path, "cpu,cpuacct", {"cpu.cfs_quota_us": "-1\n"})
    assert usable_cores(tmp_path) == 8
