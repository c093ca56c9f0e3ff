"""The config file: what counts as a setting in it, what is wrong with one, whom it trusts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from resqued.exits import InvalidSettings
from resqued.settings import configfile
from resqued.settings.command_line import parse_early
from resqued.settings.configfile import BadFile
from resqued.settings.loader import Loader


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """`conf(text)` writes resqued.conf.py into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "resqued.conf.py").touch(0o600)

    def write(text: str) -> Path:
        path = tmp_path / "resqued.conf.py"
        path.write_text(text)
        return path

    return write


def load_here(*argv, running=None, limit=None, **environ):
    line, directory = parse_early(argv), str(Path.cwd())
    return Loader(line, environ, directory, running=running, limit=limit).load()


def configuration(*argv, **environ):
    return load_here(*argv, **environ).config


def refusal(*argv, **environ) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        load_here(*argv, **environ)
    return caught.value


def test_the_file_of_the_manual(conf):
    conf("""
workers = 32
queues = {"critical": "all", "high": 20, "low": 0.10, "*": "all"}
stderr_path = stdout_path = "log/resqued.log"
require = ["myapp"]
preload_app = False

def before_fork(worker): ...
def before_exec(arbiter, argv, env): ...
""")
    loaded = load_here()
    config = loaded.config
    assert config.workers == 32
    assert [str(queue) for queue in config.queues] == ["critical", "high=20", "low=10%", "*"]
    assert config.stdout_path == config.stderr_path == f"{Path.cwd()}/log/resqued.log"
    assert config.require == ("myapp",)
    assert config.preload_app is False
    assert config.config == f"{Path.cwd()}/resqued.conf.py"
    hooks = next(info for info in loaded.plugins.found if info.name == "resqued.conf.py").hooks
    assert set(hooks) == {"before_fork", "before_exec"}


def test_flags_beat_variables_beat_the_file_beats_rqs_variables(conf):
    conf("workers = 2\nmax_jobs = 2\ngrace = 2\nredis = 'redis://file'")
    config = configuration(
        "-n", "4", RESQUED_WORKERS="3", RESQUED_MAX_JOBS="3", RQ_REDIS_URL="redis://rq"
    )
    assert (config.workers, config.max_jobs, config.grace) == (4, 3, 2.0)
    assert config.redis == "redis://file"


def test_plugins_add_up_and_the_last_word_counts(conf):
    conf("plugins = ['no:recycle', 'no:watchdog']")
    loaded = load_here("-p", "watchdog", RESQUED_PLUGINS="no:logs")
    names = {info.name for info in loaded.plugins.loaded()}
    assert "watchdog" in names
    assert not names & {"recycle", "logs"}
    assert loaded.config.plugins == ("no:recycle", "no:watchdog", "no:logs", "watchdog")


def test_what_a_file_needs_besides_settings_is_its_own_affair(conf, tmp_path):
    (tmp_path / "site_defaults.py").write_text("workers = 7\nnumber = 1\nconfig = object()\n")
    conf("""
import os
from pathlib import Path
from site_defaults import config, number, workers

_cores = 3
LIMIT = 4
class Helper: pass
def compute(): return 5
for name in "ab":
    pass
with open(os.devnull) as path:
    pass
max_jobs = compute()
""")
    config = configuration()
    assert (config.workers, config.max_jobs, config.name, config.path) == (7, 5, None, ())


def test_each_run_executes_the_file_anew_and_writes_no_bytecode(conf, tmp_path):
    path = str(conf("workers = 2"))
    first = configfile.execute(path)
    conf("workers = 3\nimport dataclasses\n@dataclasses.dataclass\nclass Mine:\n  x: 'int' = 0")
    second = configfile.execute(path)
    assert first.module is not second.module
    assert (first.module.workers, second.module.workers) == (2, 3)
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_failed_reading_leaves_the_module_in_force_alone(conf):
    path = str(conf("workers = 2"))
    module = configfile.execute(path).module
    conf("1 / 0")
    with pytest.raises(BadFile):
        configfile.execute(path)
    assert sys.modules[module.__name__] is module


MISTAKES = [
    ("workrs = 4", "resqued.conf.py:1: unknown setting workrs; did you mean workers?"),
    ("\nqwertz = 4", "resqued.conf.py:2: unknown setting qwertz; call it _qwertz if it is"),
    ("\n\nworkers = 'x'", "resqued.conf.py:3: workers: 'x' is not a number of workers"),
    ("queues = {'low': '10 %%'}", "resqued.conf.py:1: queues: queue 'low' has share '10 %%'"),
    ("queues = {}", "resqued.conf.py:1: queues: no queue is named"),
    ("queues = ['a', 'a=3']", "queue 'a' is named 2 times"),
    ("queues = {'a': 0}", "worker 1 of 1 would have no queue"),
    ("config = 'other.py'", "resqued.conf.py:1: config cannot be set in the file itself"),
    ("workers = lambda: 3", "resqued.conf.py:1: workers: <function"),
    ("def befor_fork(worker): ...", "Did you mean before_fork(worker)?"),
    ("def after_fork(wrker): ...", "Did you mean 'worker'?"),
    ("workers = (", "resqued.conf.py:1: '(' was never closed"),
    ("x = 'caf\udce9'", "resqued.conf.py: invalid or missing encoding declaration"),
    ("\n1 / 0", "resqued.conf.py:2: ZeroDivisionError: division by zero"),
    ("import sys\nsys.exit(3)", "resqued.conf.py:2: SystemExit: 3"),
    ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ("verbose = quiet = True", "it cannot be both quiet and verbose"),
    ("worker_class = 'rq.worker.SpawnWorker'", "it shows the password of Redis"),
    ("redis = 'redis://:se/cret@x'", "resqued.conf.py:1: redis: write the password's special"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_remedy(conf, text, told):
    path = conf("")
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused = refusal()
    assert any(told in error for error in refused.errors), refused.errors
    assert len(refused.errors) == 1
    assert refused.exit_code == 78
    assert "se/cret" not in str(refused)


def test_everything_wrong_is_told_at_once(conf):
    conf("""
workrs = 4
queues = {"low": "10 %%", "high": 1.5}
def befor_fork(worker): ...
""")
    refused = refusal("-n", "x", "--grace", "-1", RESQUED_MAX_AGE="old")
    told = "\n".join(refused.errors)
    for part in ("'10 %%'", "1.5", "--workers", "--grace", "RESQUED_MAX_AGE", "befor_fork"):
        assert part in told
    assert refused.exit_code == 64


def test_only_what_is_probably_a_slip_is_warned_of(conf):
    conf("WORKERS = 3\nREDIS_URL = 'redis://x'\nDEBUG = True")
    loaded = load_here(RESQUED_WORKER="3", RESQUED_PORT="tcp://10.0.0.1")
    assert loaded.warnings == (
        "resqued.conf.py:1: WORKERS is no setting; did you mean workers?",
        "resqued.conf.py:2: REDIS_URL is no setting; did you mean redis?",
        "RESQUED_WORKER is no setting; did you mean RESQUED_WORKERS?",
    )


@pytest.mark.parametrize(
    ("mode", "told"), [(0o666, "chmod o-w"), (0o602, "chmod o-w"), (0o660, "chmod g-w")]
)
def test_a_file_that_others_may_write_to_is_not_run(conf, mode, told, tmp_path):
    path = conf("open('ran', 'w')")
    os.chown(path, -1, os.getgid() if mode & 0o006 else _someone_elses_group())
    path.chmod(mode)
    refused = refusal()
    assert told in refused.errors[0]
    assert refused.exit_code == 77
    assert not (tmp_path / "ran").exists()


def _someone_elses_group() -> int:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to any group")
    return 12345


def test_a_group_of_its_owner_alone_is_trusted(conf):
    conf("workers = 3").chmod(0o660)
    assert configuration().workers == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_runs_no_file_of_somebody_else(conf):
    os.chown(conf("workers = 3"), 12345, -1)
    refused = refusal()
    assert "it belongs to user 12345, and root would run it" in refused.errors[0]
    assert refused.exit_code == 77


def test_a_file_that_is_not_there_or_no_file(conf, tmp_path):
    refused = refusal("-c", "other.py")
    assert refused.errors == [f"{tmp_path}/other.py: there is no such file"]
    assert refused.exit_code == 78
    assert "it is not a file" in refusal("-c", "/dev/null").errors[0]
    assert "cannot be read" in refusal("-c", "/").errors[0]


def test_a_file_named_by_a_variable(conf, tmp_path):
    conf("workers = 3").rename(tmp_path / "mine.py")
    assert configuration(RESQUED_CONFIG="mine.py").workers == 3


def test_a_reload_is_not_held_up_by_a_file_that_hangs(conf):
    running = configuration()
    conf("import threading\nthreading.Event().wait()")
    with pytest.raises(InvalidSettings, match=r"resqued.conf.py took longer than 0.1 s"):
        load_here(running=running, limit=0.1)


def test_a_file_that_is_gone_at_a_reload_is_missed(conf, tmp_path):
    path = conf("workers = 3")
    running = configuration()
    path.unlink()
    with pytest.raises(InvalidSettings, match=r"resqued.conf.py: there is no such file"):
        load_here(running=running)
    assert configuration().workers == 1


def test_the_state_directory_is_where_system_or_user_want_it(conf, tmp_path):
    assert configuration(STATE_DIRECTORY="/var/lib/x:/y").state == "/var/lib/x"
    assert configuration(XDG_STATE_HOME="/home/u/.state").state == "/home/u/.state/resqued"
    assert configuration("--state", "s", STATE_DIRECTORY="/x").state == f"{tmp_path}/s"
    conf("def configure(config): assert config.state == '/var/lib/x'")
    assert configuration(STATE_DIRECTORY="/var/lib/x").config == f"{tmp_path}/resqued.conf.py"


def test_some_settings_keep_their_value_until_a_restart(conf):
    conf("pid = 'one'\nworkers = 1")
    running = configuration()
    conf("pid = 'two'\nworkers = 2")
    loaded = load_here(running=running)
    assert loaded.config.pid == running.pid
    assert loaded.config.workers == 2
    assert "takes a restart" in loaded.warnings[0]


def test_a_module_that_the_app_shares_with_the_arbiter_is_named(conf, tmp_path):
    (tmp_path / "shared_app.py").touch()
    conf("import shared_app\nrequire = ['shared_app']")
    warnings = load_here().warnings
    assert any("shared_app is imported in the arbiter" in warning for warning in warnings)


PLUGIN = """
from resqued import ConfigError, hookimpl

@hookimpl
def add_options(options):
    options.add("--parcel-size", default=3, help="How many.")
    options.add("--parcel-host", help="Where to.")
    options.add("--parcel-open", default=False)
    options.add("--parcel-weights", default=[], type=float)

@hookimpl
def configure(config):
    config.parcel_host = config.parcel_host or "nowhere"
    if config.parcel_size > 9:
        raise ConfigError("parcel_size", "too large", remedy="At most 9.")
"""


@pytest.fixture
def parcel(conf, tmp_path, monkeypatch):
    (tmp_path / "parcel.py").write_text(PLUGIN)
    yield conf
    sys.modules.pop("parcel", None)


def test_a_plugins_options_are_flags_settings_and_variables(parcel):
    parcel("plugins = ['parcel']\nparcel_size = 4")
    config = configuration("--parcel-weights", "1", "--parcel-weights", "2.5", "--parcel-open")
    assert (config.parcel_size, config.parcel_host, config.parcel_open) == (4, "nowhere", True)
    assert config.parcel_weights == (1.0, 2.5)
    config = configuration(
        "--parcel-size", "6", RESQUED_PARCEL_HOST="here", RESQUED_PARCEL_SIZE="5"
    )
    assert (config.parcel_size, config.parcel_host) == (6, "here")
    assert type(config).from_plain(config.as_plain()).parcel_size == 6


def test_what_is_wrong_with_a_plugins_option(parcel):
    parcel("plugins = ['parcel']")
    assert refusal("--parcel-size", "x").errors[0].startswith("--parcel-size: 'x': invalid literal")
    refused = refusal("--parcel-size", "10")
    assert refused.errors == [
        "--parcel-size: parcel_size: too large (plugin 'parcel')\n  At most 9."
    ]
    parcel("plugins = ['parcel']\nparcel_size = 'x'\nparcel_sizes = 3")
    errors = refusal().errors
    assert errors[0].startswith("resqued.conf.py:2: parcel_size: 'x'")
    assert "did you mean parcel_size?" in errors[1]


def test_an_option_of_a_plugin_that_is_blocked(parcel):
    parcel("plugins = ['parcel']\nparcel_size = 4")
    refused = refusal("-p", "no:parcel", "--parcel-size", "4")
    assert "it belongs to plugin 'parcel', which is not loaded (blocked by" in refused.errors[0]
    assert refused.exit_code == 64
    warnings = load_here("-p", "no:parcel", RESQUED_PARCEL_HOST="here").warnings
    for source in ("resqued.conf.py:2: parcel_size", "RESQUED_PARCEL_HOST"):
        assert any(f"{source} belongs to plugin 'parcel'" in warning for warning in warnings)


def test_a_flag_of_a_built_in_plugin_that_is_blocked_is_refused(conf):
    refused = refusal("-p", "no:recycle", "--max-jobs", "5", "--max-age=x", "--grace", "x")
    assert refused.errors[0].startswith("--grace: 'x' is not a duration")
    assert refused.errors[1:] == [
        f"{flag}: it belongs to plugin 'recycle', which is not loaded (blocked by -p no:recycle);"
        " load the plugin, or leave the flag out"
        for flag in ("--max-jobs", "--max-age")
    ]
    assert refused.exit_code == 64
    assert "not named; -p recycle loads it" in refusal("--no-autoload", "--max-jobs", "5").errors[0]
    assert configuration("--no-autoload", "-p", "recycle", "--max-jobs", "5").max_jobs == 5


def test_a_setting_of_a_built_in_plugin_that_is_blocked_is_a_warning(conf):
    conf("plugins = ['no:recycle']\nmax_jobs = 5\nmax_age = 'x'")
    loaded = load_here(RESQUED_MAX_THREADS="2", RESQUED_MAX_MEMORY="")
    told = "belongs to plugin 'recycle', which is not loaded (blocked by no:recycle in"
    assert loaded.warnings == tuple(
        f"{source} {told} resqued.conf.py:1)"
        for source in (
            "resqued.conf.py:2: max_jobs",
            "RESQUED_MAX_THREADS",
            "resqued.conf.py:3: max_age",
        )
    )
    assert not hasattr(loaded.config, "max_jobs")


def test_a_plugin_may_bring_what_a_blocked_one_had(conf):
    conf(
        "plugins = ['no:recycle']\nmax_jobs = 5\n"
        "def add_options(options): options.add('--max-jobs', default=1)"
    )
    loaded = load_here()
    assert loaded.config.max_jobs == 5
    assert not loaded.warnings


@pytest.mark.parametrize(
    ("type", "value", "comes_to"),
    [("count", "7", 7), ("seconds", "2m", 120.0), ("size", "1K", 1024), ("seconds", "none", None)],
)
def test_an_option_may_be_of_a_kind_that_resqued_has(conf, type, value, comes_to):
    conf(f"def add_options(options): options.add('--limit', type={type!r})")
    assert configuration("--limit", value).limit == comes_to
    assert "--limit: 'x' is not a" in refusal("--limit", "x").errors[0]
    conf("def add_options(options): options.add('--limit', type='weeks')")
    assert "type='weeks' is none of count, seconds, size" in refusal().errors[0]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ('options.add("--other-thing")', "must begin with the plugin's name: --greedy-..."),
        ('options.add("--workers")', "must begin with the plugin's name"),
        ('options.add("greedy")', "is not the name of an option"),
        ('options.add("--greedy-x"); options.add("--greedy-x")', "already, of plugin 'greedy'"),
        ('options.add("--greedy-x", default=object())', "reads no text"),
        ('options.add("--greedy-x", default={1}, type=str)', "not a plain value"),
    ],
)
def test_an_option_that_a_plugin_may_not_have(conf, tmp_path, call, told):
    (tmp_path / "greedy.py").write_text(
        f"from resqued import hookimpl\n\n@hookimpl\ndef add_options(options):\n    {call}\n"
    )
    error = refusal("-p", "greedy").errors[0]
    sys.modules.pop("greedy")
    assert told in error
    assert "plugin 'greedy'" in error
    assert "greedy.py:5" in error


def test_a_hook_may_change_settings_but_only_into_what_can_be(conf):
    conf("""
def configure(config):
    config.queues = {"a": 1, "b": "all"}
    config.redis = "unix:///run/x.sock"
    config.pid = "x"
""")
    config = configuration()
    assert [str(queue) for queue in config.queues] == ["a=1", "b"]
    assert (config.redis, config.pid) == ("unix:///run/x.sock", f"{Path.cwd()}/x")
    conf("def configure(config): config.workers = 'x'")
    assert "resqued.conf.py: workers: 'x' is not a number of workers" in refusal().errors[0]
    conf("def configure(config): config.wrkers = 3")
    assert "there is no such setting\n  Did you mean workers?" in refusal().errors[0]
    conf("def configure(config): 1 / 0")
    assert "plugin 'resqued.conf.py' raised ZeroDivisionError" in refusal().errors[0]
