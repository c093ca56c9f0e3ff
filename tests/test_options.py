"""Options that plugins declare, and what else a plugin asks of the settings."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from harness.command import run
from resqued import Config, ConfigError
from resqued.exits import InvalidSettings
from resqued.settings.command_line import help_page, parse_early
from resqued.settings.loader import Loader
from resqued.testing import make_config


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """`conf(text)` writes a config file with this `add_options` into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(declared: str, more: str = "") -> None:
        text = f"def add_options(options):\n    options.add({declared})\n{more}\n"
        (tmp_path / "resqued.conf.py").write_text(text)

    return write


def loader(*argv: str, **environ: str) -> Loader:
    return Loader(parse_early(argv), environ, str(Path.cwd()))


def configuration(*argv: str, **environ: str) -> Config:
    return loader(*argv, **environ).load().config


def errors(*argv: str, **environ: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        loader(*argv, **environ).load()
    return caught.value.errors


def passed_on(config: Config) -> Config:
    """As a fork server gets it."""
    return Config.from_plain(json.loads(json.dumps(config.as_plain())))


MODE = "'--mode', default='udp', choices=('udp', 'tcp')"


def test_a_choice_is_checked_wherever_it_comes_from(conf):
    conf(MODE)
    assert configuration().mode == "udp"
    assert configuration("--mode", "tcp").mode == configuration(RESQUED_MODE="tcp").mode == "tcp"
    wrong = "'xyz' is none of udp, tcp"
    assert errors("--mode", "xyz") == [f"--mode: {wrong}"]
    assert errors(RESQUED_MODE="xyz") == [f"RESQUED_MODE: {wrong}"]
    conf(MODE, "mode = 'xyz'")
    assert errors() == [f"resqued.conf.py:3: mode: {wrong}"]


def test_numbers_can_be_choices_and_none_is_no_value(conf):
    conf("'--port', choices=[1, 2]")
    assert (configuration().port, configuration("--port", "2").port) == (None, 2)
    assert errors("--port", "3") == ["--port: 3 is none of 1, 2"]
    assert errors("--port", "x")[0].startswith("--port: 'x': ")


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ("'--x', default='c', choices=('a', 'b')", "the default of --x: 'c' is none of a, b"),
        ("'--x', choices=()", "choices=() is not a list of values"),
        ("'--x', choices='ab'", "choices='ab' is not a list of values"),
        ("'--x', default=False, choices=[True]", "a switch has no choices"),
        ("'--state-dir'", "--state-dir cannot be an option: config.state_dir is something else"),
        ("'--options'", "--options cannot be an option: config.options is something else"),
        ("'--workers'", "there is an option --workers already"),
        ("'--x', default='a', many=True", "has many values, so its default 'a' must be a list"),
    ],
)
def test_what_does_not_fit_is_the_plugins_error(conf, declared, what):
    conf(declared)
    assert what in errors()[0]
    assert "hook add_options: plugin 'resqued.conf.py' raised ValueError" in errors()[0]


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        (MODE, "--mode udp|tcp"),
        ("'--host', metavar='HOST:PORT'", "--host HOST:PORT"),
        ("'--tag', many=True, metavar='NAME'", "--tag NAME"),
    ],
)
def test_the_help_shows_what_stands_for_a_value(conf, declared, shown):
    conf(declared)
    each = loader()
    each.read_sources()
    each.load_plugins()
    assert shown in help_page(each.settings.values())


TAGS = "'--tag', many=True, type=int"


@pytest.mark.parametrize("declared", [TAGS, "'--tag', default=[0]", "'--tag', default=(0,)"])
def test_lists_are_tuples_everywhere(conf, declared):
    default = () if "many" in declared else (0,)
    conf(declared)
    for config, value in (
        (configuration(), default),
        (configuration("--tag", "1", "--tag", "2"), (1, 2)),
        (configuration(RESQUED_TAG="1, 2"), (1, 2)),
    ):
        assert config.tag == passed_on(config).tag == value
        assert type(config.tag) is tuple
    conf(declared, "tag = [3, 4]")
    assert configuration().tag == passed_on(configuration()).tag == (3, 4)
    conf(declared, "tag = 3")
    assert errors() == ["resqued.conf.py:3: tag: 3 is not a list; write [3]"]
    conf(declared, "def configure(config): config.tag = [5]")
    assert configuration().tag == (5,)


def test_a_list_that_a_function_reads_is_a_tuple_too(conf):
    conf("'--map', type=__import__('json').loads")
    config = configuration("--map", '{"a": [1, [2]]}')
    assert config.map == passed_on(config).map == {"a": (1, (2,))}


def test_a_function_that_fails_is_told_with_the_value(conf):
    conf("'--map', type=lambda text: {}[text]")
    assert errors("--map", "x") == ["--map: 'x': KeyError: 'x'"]


# --- secrets ---------------------------------------------------------------------------------

SECRET = "'--auth', secret=True, choices=('hush-hush-1', 'hush-hush-2'), default='hush-hush-1'"


def test_a_secret_is_in_no_message(conf, tmp_path):
    conf(SECRET, "def configure(config): raise ValueError(f'cannot use {config.auth}')")
    for words, env in ((["--auth", "hush-nowhere"], {}), ([], {"RESQUED_AUTH": "hush-nowhere"})):
        code, out, err = run("--check", *words, cwd=tmp_path, **env)
        assert code in (64, 78)
        assert "its value cannot be (it is not shown)" in err
        assert "hush" not in out + err
    for words in (["--check", "-v"], ["--help"]):
        _, out, err = run(*words, cwd=tmp_path, RESQUED_AUTH="hush-hush-2")
        assert "hush" not in out + err, words
        assert "--auth" in out or "cannot use ***" in err


def test_a_secret_is_not_in_the_log_of_any_process(resqued):
    config = """
    import sys
    from resqued.logs import logger

    def add_options(options):
        options.add("--auth", secret=True)

    def configure(config):
        config.auth = "from-a-vault-1"

    def arbiter_ready(arbiter):
        logger.info(f"arbiter: {arbiter.config.auth}; {arbiter.config!r}")

    def app_loaded(generation):
        logger.info(f"fork server: {generation.config.auth}")

    def after_fork(worker):
        logger.info(f"worker: {worker.config.auth}")
    """
    arbiter = resqued(config=config)
    arbiter.wait_for_workers(1)
    for process in ("arbiter", "fork server", "worker"):
        arbiter.wait_for(rf"{process}: \*\*\*")
    assert "from-a-vault" not in arbiter.log()
    assert "from-a-vault" not in json.dumps(arbiter.status())


# --- has_plugin and state_dir ----------------------------------------------------------------


def test_a_plugin_is_known_by_its_name_everywhere(resqued):
    config = """
    def configure(config):
        assert config.has_plugin("shares") and config.has_plugin("resqued.conf.py")
        assert not config.has_plugin("recycle") and not config.has_plugin("embedded")

    def app_loaded(generation):
        assert generation.config.has_plugin("shares") and not generation.config.has_plugin("logs:x")

    def after_fork(worker):
        assert worker.config.has_plugin("watchdog") and not worker.config.has_plugin("recycle")

    def arbiter_ready(arbiter):
        assert arbiter.config.has_plugin("logs")
    """
    arbiter = resqued("-p", "no:recycle", config=config)
    arbiter.wait_for_workers(1)


def config_with(state: Path | None) -> Config:
    return dataclasses.replace(Config(), state=None if state is None else str(state))


def test_the_folder_of_a_plugin_is_made_for_its_user_alone(tmp_path):
    before = os.umask(0)
    try:
        path = config_with(tmp_path / "a" / "state").state_dir("cron")
    finally:
        os.umask(before)
    assert path == tmp_path / "a" / "state" / "cron"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert config_with(tmp_path / "a" / "state").state_dir("cron") == path


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_what_is_no_name_of_a_folder(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name of a folder\n  give the plugin's"):
        config_with(tmp_path).state_dir(name)


def test_a_folder_that_cannot_be_had(tmp_path):
    with pytest.raises(ConfigError, match=r"no state directory, in which 'cron'.*\n  give --state"):
        config_with(None).state_dir("cron")
    (tmp_path / "cron").touch()
    with pytest.raises(ConfigError, match="cron cannot be made: it is no folder"):
        config_with(tmp_path).state_dir("cron")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match=r"everybody may write to it .*\n  chmod o-w"):
        config_with(tmp_path).state_dir("open")


@pytest.mark.parametrize("flag", ["--tea-cups", "--resqued-tea-cups"])
def test_a_module_may_call_its_options_as_its_entry_point_would(tmp_path, monkeypatch, flag):
    """`-p resqued_tea`, which is not installed: its options are those of the installed `tea`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    text = f"""
        from resqued import hookimpl
        @hookimpl
        def add_options(options): options.add("{flag}", default=1)
    """
    Path("resqued_tea.py").write_text(textwrap.dedent(text))
    name = flag[2:].replace("-", "_")
    assert getattr(configuration("-p", "./resqued_tea.py", flag, "3"), name) == 3
    assert getattr(configuration("-p", "resqued_tea", flag, "3"), name) == 3
    assert getattr(make_config(sys.modules.pop("resqued_tea"), **{name: 3}), name) == 3
