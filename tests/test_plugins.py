"""Finding, loading and checking plugins, with real distributions, modules and files."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from resqued.plugins.candidates import AskedPlugin
from resqued.plugins.registry import PluginError, Plugins, load_plugins
from resqued.settings.configfile import execute

HOOK = "from resqued import hookimpl\n@hookimpl\ndef tick(now): pass\n"
BUILT_IN = ["watchdog", "shares", "reload", "recycle", "logs", "http", "cron"]  # in call order
IDLE = ["django", "embedded", "systemd"]  # loaded only when asked for, or by systemd


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what is imported from it is forgotten afterwards."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield here
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(place: Path) -> Callable[[str, str], Path]:
    """Write a file below the working directory."""

    def write(name: str, text: str) -> Path:
        path = place / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def install(tmp_path: Path, write: Callable[[str, str], Path]) -> Callable[..., Path]:
    """Install a distribution with one entry point, as pip lays it out."""
    site = tmp_path / "site"
    site.mkdir()

    def install(dist: str, name: str, module: str, text: str = HOOK, version: str = "1.0") -> Path:
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[resqued]\n{name} = {module}\n")
        path = site / f"{module.partition(':')[0].replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))
        if str(site) not in sys.path:
            sys.path.append(str(site))
        return path

    return install


def names(plugins: Plugins, status: str = "loaded") -> list[str]:
    return [info.name for info in plugins.found if info.status == status]


def refused(*asked: str | AskedPlugin, config_module: ModuleType | None = None) -> PluginError:
    with pytest.raises(PluginError) as error:
        load_plugins(asked, config_module=config_module)
    assert error.value.exit_code == 78
    return error.value


def one_error(*asked: str | AskedPlugin, config_module: ModuleType | None = None) -> str:
    errors = refused(*asked, config_module=config_module).errors
    assert len(errors) == 1, errors
    return errors[0]


# --- which, and in which order ---------------------------------------------------------------


def test_the_built_ins_are_there_without_asking_but_for_the_embedded_server():
    plugins = load_plugins([])
    assert names(plugins) == BUILT_IN
    assert names(plugins, "idle") == IDLE
    assert plugins.warnings == []
    assert {info.origin for info in plugins.found} == {"built in"}
    assert plugins.banner() == f"plugins: {', '.join(BUILT_IN)}"


def test_the_nearest_to_the_user_is_called_first(install, write):
    install("acme-zeta", "zeta", "acme_zeta")
    install("acme-alpha", "alpha", "acme_alpha", version="2.1")
    write("mine.py", HOOK)
    write("local.py", HOOK)
    config = execute(str(write("resqued.conf.py", "def tick(now): pass\n")))
    plugins = load_plugins(["mine", "./local.py", "alpha"], config_module=config.module)
    assert names(plugins) == ["resqued.conf.py", "alpha", "local", "mine", "zeta", *BUILT_IN]
    called = [each.plugin_name for each in reversed(plugins.manager.hook.tick.get_hookimpls())]
    assert called == ["resqued.conf.py", "alpha", "local", "mine", "zeta"]
    assert plugins.banner() == (
        f"plugins: resqued.conf.py, alpha 2.1, local, mine, zeta 1.0, {', '.join(BUILT_IN)}"
    )


def test_where_each_came_from_is_known(install, write):
    file = install("acme-alpha", "alpha", "acme_alpha", version="2.1")
    path = write("local.py", HOOK)
    plugins = load_plugins([AskedPlugin("./local.py", "RESQUED_PLUGINS")])
    found = {info.name: info for info in plugins.found}
    assert found["local"].origin == "./local.py in RESQUED_PLUGINS"
    assert found["local"].file == str(path)
    alpha = found["alpha"]
    assert (alpha.origin, alpha.distribution, alpha.version) == ("entry point", "acme-alpha", "2.1")
    assert (alpha.file, alpha.hooks) == (str(file), ("tick",))


def test_autoload_off_takes_only_what_is_named(install):
    install("acme-alpha", "alpha", "acme_alpha")
    plugins = load_plugins(["shares"], autoload=False)
    assert names(plugins) == ["shares"]
    others = {*BUILT_IN, *IDLE} - {"shares"}
    assert names(plugins, "idle") == [*sorted(others), "alpha"]
    assert "acme_alpha" not in sys.modules


def test_embedded_is_loaded_when_named():
    assert names(load_plugins(["embedded"]))[0] == "embedded"


def test_a_plugin_may_be_an_object_in_a_module(install):
    text = """
        from resqued import hookimpl
        class Counter:
            def __init__(self): self.count = 0
            @hookimpl
            def tick(self, now): self.count += 1
        plugin = Counter()
    """
    install("acme-count", "count", "acme_count:plugin", text)
    plugins = load_plugins([])
    plugins.hooks().tell("tick", arbiter=None, now=0.0)
    assert plugins.manager.get_plugin("count").count == 1


# --- no:NAME, and the last word --------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["alpha", "acme_alpha", "acme-alpha", "Acme.Alpha"])
def test_a_plugin_is_blocked_by_its_name_its_module_or_its_distribution(install, spelling):
    install("acme-alpha", "alpha", "acme_alpha", "raise SystemExit('never imported')")
    plugins = load_plugins([f"no:{spelling}"])
    assert names(plugins, "blocked") == ["alpha"]
    assert plugins.warnings == []
    assert plugins.banner().endswith("; blocked: alpha")
    assert plugins.found[-1].error == f"blocked by -p no:{spelling}"


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_can_be_taken_out(name):
    plugins = load_plugins([f"no:{name}"])
    assert names(plugins) == [each for each in BUILT_IN if each != name]


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["no:alpha", "alpha"], True),
        (["alpha", "no:alpha"], False),
        (["no:acme-alpha", "alpha"], True),
        (["no:alpha", "acme_alpha"], True),
        (["alpha", "no:alpha", "alpha"], True),
        (["mine", "no:mine"], None),
    ],
)
def test_the_last_word_wins(install, write, words, loaded):
    install("acme-alpha", "alpha", "acme_alpha")
    write("mine.py", HOOK)
    plugins = load_plugins(words)
    assert ("alpha" in names(plugins)) is (loaded is not False)
    assert "mine" not in names(plugins)
    assert plugins.warnings == []


def test_blocking_nothing_is_a_warning_that_suggests(install):
    install("resqued-statsd", "statsd", "resqued_statsd")
    assert load_plugins(["no:statd"]).warnings == [
        "-p no:statd blocks nothing. Did you mean 'statsd'?"
    ]
    assert load_plugins([AskedPlugin("no:zzz", "resqued.conf.py")]).warnings == [
        "no:zzz in resqued.conf.py blocks nothing."
    ]


# --- -p NAME ---------------------------------------------------------------------------------


def test_a_module_of_the_working_directory_can_be_named(write):
    write("mypackage/__init__.py", "")
    write("mypackage/metrics.py", HOOK)
    assert names(load_plugins(["mypackage.metrics"]))[0] == "mypackage.metrics"


def test_a_file_does_not_hide_a_module_of_its_name(write):
    write("client.py", "VALUE = 1")
    write(
        "plugins/client.py",
        """
        import client
        from resqued import hookimpl
        @hookimpl
        def worker_count(): return client.VALUE
        """,
    )
    plugins = load_plugins(["plugins/client.py"])
    assert plugins.hooks().ask("worker_count", arbiter=None, current=5) == 1


def test_naming_the_module_of_an_entry_point_means_the_plugin(install):
    install("acme-alpha", "alpha", "acme_alpha")
    assert names(load_plugins(["acme_alpha"])) == ["alpha", *BUILT_IN]
    assert names(load_plugins(["acme_alpha"], autoload=False)) == ["alpha"]


def test_a_plugin_that_is_nowhere(install, place):
    install("resqued-statsd", "statsd", "resqued_statsd")
    install("resqued-otel", "otel", "resqued_otel")
    assert one_error("statd") == (
        "no plugin 'statd' (asked for by -p statd). Did you mean 'statsd'?\n"
        f"  Not a built-in ({', '.join(sorted([*BUILT_IN, *IDLE]))}), not an"
        " installed entry point\n"
        f"  (otel, statsd), and no module of that name in {place} or on the Python path."
    )


def test_the_name_of_a_distribution_is_not_a_plugin_but_suggests_it(install):
    install("resqued-statsd", "statsd", "resqued_statsd_module")
    assert "Did you mean 'statsd'?" in one_error("resqued-statsd")


def test_a_missing_file_and_a_missing_submodule(write, place):
    write("mypackage/__init__.py", "")
    assert one_error("./none.py") == (
        f"no plugin 'none' (asked for by -p ./none.py).\n  There is no file {place}/none.py."
    )
    assert one_error("mypackage.none").startswith("no plugin 'mypackage.none' (asked for by")


@pytest.mark.parametrize("name", ["./mine", "a b", "", ".mine"])
def test_what_cannot_be_the_name_of_a_plugin(name):
    assert f"no plugin '{name}' (asked for by -p {name})." in one_error(name)
    assert ("A path ends in .py." in one_error(name)) is ("/" in name)


# --- broken ----------------------------------------------------------------------------------


def test_what_was_asked_for_must_load(install):
    install("resqued-statsd", "statsd", "resqued_statsd", "import os\nimport datadog\n", "0.3.0")
    error = refused("statsd")
    assert error.errors == [
        "plugin 'statsd' (resqued-statsd 0.3.0, -p statsd) failed to import.\n"
        "  ModuleNotFoundError: No module named 'datadog'\n"
        "  at resqued_statsd.py:2: import datadog\n"
        "  Start without it: -p no:statsd. Full traceback: -v."
    ]
    assert names(error.plugins) == BUILT_IN, "the listings show what there is"
    assert names(error.plugins, "broken") == ["statsd"]
    assert "import datadog" in error.plugins.found[-1].traceback


def test_what_is_merely_installed_must_not_hurt(install):
    install("resqued-otel", "otel", "resqued_otel", "import opentelemetry_x\n", "0.3.1")
    install("resqued-fine", "fine", "resqued_fine")
    plugins = load_plugins([])
    assert names(plugins) == ["fine", *BUILT_IN]
    assert plugins.warnings == [
        "plugin 'otel' (resqued-otel 0.3.1) not loaded: ModuleNotFoundError: No module named"
        " 'opentelemetry_x' (resqued_otel.py:1). resqued goes on without it;"
        " -p no:otel silences this."
    ]
    assert plugins.banner().endswith("; not loaded: otel")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise SystemExit(3)", "SystemExit: 3\n  at mine.py:1: raise SystemExit(3)"),
        ("x = = 1\n", "SyntaxError: invalid syntax (mine.py, line 1)\n  at mine.py:1: x = = 1"),
        ("import mine.other", "ModuleNotFoundError: No module named 'mine.other'"),
        ("class E(Exception): pass\nraise E", "E\n  at mine.py:2: raise E"),
    ],
)
def test_however_an_import_fails_it_is_told(write, text, told):
    write("mine.py", text)
    assert f"plugin 'mine' (-p mine) failed to import.\n  {told}" in one_error("mine")


def test_a_file_that_failed_is_tried_again_after_a_change(write):
    write("mine.py", "1/0")
    refused("./mine.py")
    write("mine.py", HOOK)
    assert names(load_plugins(["./mine.py"]))[0] == "mine"


def test_an_entry_point_whose_object_is_missing(install):
    install("acme-alpha", "alpha", "acme_alpha:plugin", "")
    assert "AttributeError" in load_plugins([]).warnings[0]
    assert "AttributeError" in one_error("alpha")


def test_all_faults_are_told_at_once(write):
    write("one.py", "import nowhere_1")
    write("two.py", "from resqued import hookimpl\n@hookimpl\ndef tik(now): pass\n")
    errors = refused("one", "two", "three", "./four.py").errors
    assert [error.split()[:3] for error in errors] == [
        ["plugin", "'one'", "(-p"],
        ["no", "plugin", "'three'"],
        ["no", "plugin", "'four'"],
        ["plugin", "'two'", "(two.py:2)"],
    ]


def test_resqued_without_metadata_says_how_to_install_it(monkeypatch):
    from importlib import metadata

    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    assert one_error() == "resqued is not installed here; run: pip install -e ."


# --- names -----------------------------------------------------------------------------------


def test_one_name_of_two_installed_plugins_means_none_of_them(install):
    install("resqued-statsd", "statsd", "resqued_statsd", version="0.3.0")
    install("acme-tools", "statsd", "acme.rq_statsd", version="2.1")
    install("acme-alpha", "alpha", "acme_alpha")
    both = "    acme-tools 2.1: -p acme.rq_statsd\n    resqued-statsd 0.3.0: -p resqued_statsd\n"
    plugins = load_plugins([])
    assert names(plugins) == ["alpha", *BUILT_IN]
    assert names(plugins, "broken") == ["statsd", "statsd"]
    assert plugins.warnings == [
        f"2 installed plugins are called 'statsd':\n{both}"
        "  None of them is loaded; name one by its module, as above."
        " -p no:<distribution> silences this."
    ]
    assert one_error("statsd") == (
        f"the plugin name 'statsd' (asked for by -p statsd) means 2 installed plugins:\n{both}"
        "  Name one by its module, as above, or block the other: -p no:<distribution>."
    )


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["no:acme-tools"], ["statsd"]),
        (["statsd", "no:acme-tools"], ["statsd"]),
        (["no:acme-tools", "statsd"], ["statsd"]),
        (["resqued_statsd"], ["statsd"]),
        (["resqued_statsd", "acme.rq_statsd"], ["acme.rq_statsd", "resqued_statsd"]),
        (["resqued_statsd", "acme.rq_statsd", "no:statsd"], []),
        (["no:statsd", "resqued_statsd"], ["statsd"]),
    ],
)
def test_each_of_two_with_one_name_can_be_named_by_its_module(install, words, loaded):
    install("resqued-statsd", "statsd", "resqued_statsd")
    install("acme-tools", "statsd", "acme.rq_statsd")
    plugins = load_plugins(words)
    assert names(plugins) == [*loaded, *BUILT_IN]
    assert plugins.warnings == []
    if loaded == ["statsd"]:
        assert plugins.found[0].distribution == "resqued-statsd"


def test_a_built_in_keeps_its_name(install):
    install("acme-tools", "shares", "acme_shares")
    plugins = load_plugins([])
    assert names(plugins) == BUILT_IN
    assert "2 installed plugins are called 'shares':" in plugins.warnings[0]
    assert "The built-in one is loaded" in plugins.warnings[0]
    assert names(load_plugins(["acme_shares"])) == ["acme_shares", *BUILT_IN]


def test_a_file_and_an_entry_point_of_one_name(install, write):
    install("resqued-statsd", "statsd", "resqued_statsd")
    write("statsd.py", HOOK)
    error = one_error("./statsd.py")
    assert "resqued-statsd 1.0, entry point resqued_statsd\n    -p ./statsd.py\n" in error
    assert names(load_plugins(["./statsd.py", "no:resqued-statsd"]))[0] == "statsd"


def test_the_same_object_under_two_names(install, write):
    install("resqued-statsd", "statsd", "resqued_statsd", version="0.3.0")
    install("acme-again", "zagain", "acme_again:plugin", "import resqued_statsd as plugin")
    assert one_error() == (
        "plugin 'zagain' (acme-again 1.0) is the same object as plugin\n"
        "  'statsd' (resqued-statsd 0.3.0, entry point resqued_statsd). Name it once."
    )


def test_naming_a_plugin_twice_loads_it_once(write):
    write("mine.py", HOOK)
    assert names(load_plugins(["mine", "mine"])) == ["mine", *BUILT_IN]
    assert names(load_plugins(["./mine.py", "mine.py"])) == ["mine", *BUILT_IN]


def test_a_name_from_a_tutorial_is_a_warning(install):
    install("acme-alpha", "name_of_plugin", "acme_alpha")
    assert "is called 'name_of_plugin'" in load_plugins([]).warnings[0]


# --- validation ------------------------------------------------------------------------------


def plugin_with(write: Callable[[str, str], Path], text: str) -> str:
    write("mine.py", "from resqued import hookimpl\n" + textwrap.dedent(text))
    return "./mine.py"


def test_an_unknown_hook(write):
    asked = plugin_with(write, "@hookimpl\ndef after_frok(worker): pass")
    assert one_error(asked) == (
        "plugin 'mine' (mine.py:2) implements an unknown hook 'after_frok'.\n"
        "  Did you mean after_fork(worker)?\n"
        "  See resqued --list-hooks; a hook of a newer resqued, or of a plugin that may be absent:"
        " @hookimpl(optionalhook=True)."
    )


def test_a_hook_of_a_newer_resqued_may_be_optional(write):
    asked = plugin_with(write, "@hookimpl(optionalhook=True)\ndef later(x): pass\n" + HOOK)
    assert load_plugins([asked]).found[0].hooks == ("tick", "later")


def test_a_function_may_have_another_name_than_its_hook(write):
    asked = plugin_with(write, "@hookimpl(specname='worker_count')\ndef mine(): return 3")
    assert load_plugins([asked]).hooks().ask("worker_count", arbiter=None, current=1) == 3


def test_an_unknown_argument(write):
    asked = plugin_with(write, "@hookimpl\ndef worker_exited(wroker): pass")
    assert one_error(asked) == (
        "plugin 'mine' (mine.py:2): worker_exited has no argument 'wroker'."
        " Did you mean 'worker'?\n"
        "  It offers worker_exited(arbiter, worker, exit); list only those you need."
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [("**kw", "**kw"), ("*args", "*args"), ("*, worker", "keyword-only worker")],
)
def test_only_plain_arguments(write, arguments, what):
    asked = plugin_with(write, f"@hookimpl\ndef after_fork({arguments}): pass")
    assert one_error(asked) == (
        f"plugin 'mine' (mine.py:2): after_fork takes plain arguments only, not {what}."
        " Name those you want from after_fork(worker)."
    )


def test_only_perform_job_can_be_wrapped(write):
    asked = plugin_with(write, "@hookimpl(wrapper=True)\ndef before_fork(worker): yield")
    assert one_error(asked) == (
        "plugin 'mine' (mine.py:2): before_fork cannot be wrapped; only perform_job can."
    )


@pytest.mark.parametrize(
    "text",
    [
        "@hookimpl\ndef perform_job(job): yield",
        "@hookimpl\ndef perform_job(job): pass",
        "@hookimpl(wrapper=True)\ndef perform_job(job): pass",
        "@hookimpl(hookwrapper=True)\ndef perform_job(job): yield",
    ],
)
def test_perform_job_is_always_a_wrapper(write, text):
    assert "perform_job must be a wrapper.\n  Mark it with" in one_error(plugin_with(write, text))


def test_a_class_is_not_a_plugin_but_its_instance_is(install):
    text = "from resqued import hookimpl\nclass Hooks:\n    @hookimpl\n    def tick(self): pass\n"
    install("acme-alpha", "alpha", "acme_alpha:Hooks", text)
    assert one_error("alpha") == (
        "plugin 'alpha' (acme-alpha 1.0, -p alpha) resolves to the class Hooks;"
        " point it at an instance (Hooks()) or a module."
    )


def test_a_plugin_that_is_merely_installed_and_wrong_is_a_warning(install):
    text = "from resqued import hookimpl\n@hookimpl\ndef after_frok(worker): pass\n"
    install("acme-alpha", "alpha", "acme_alpha", text)
    plugins = load_plugins([])
    assert names(plugins, "broken") == ["alpha"]
    assert "Did you mean after_fork(worker)?" in plugins.warnings[0]
    assert plugins.warnings[0].endswith("-p no:alpha silences this.")


def test_a_forgotten_marker_is_a_warning(write):
    asked = plugin_with(write, HOOK + "def after_fork(worker): pass\n")
    assert load_plugins([asked]).warnings == [
        "plugin 'mine': after_fork() at mine.py:5 has no @hookimpl and is never called"
    ]


def test_a_slip_without_a_marker_is_a_warning_in_a_plugin_that_has_hooks(write):
    asked = plugin_with(write, HOOK + "def after_frok(worker): pass\ndef ticks(): pass\n")
    assert load_plugins([asked]).warnings == [
        "plugin 'mine': after_frok() at mine.py:5 is never called."
        " Did you mean after_fork(worker), with @hookimpl?"
    ]


def test_a_module_without_hooks_is_a_warning(write):
    write("mine.py", "def configure_logging(): pass\n")
    assert load_plugins(["mine"]).warnings == ["plugin 'mine' (-p mine) implements no hook"]


def test_what_a_plugin_imports_is_not_its_own(write):
    write("other.py", "def after_fork(worker): pass\n")
    asked = plugin_with(write, HOOK + "from other import after_fork\n")
    plugins = load_plugins([asked])
    assert plugins.warnings == []
    assert plugins.found[0].hooks == ("tick",)


# --- the config file -------------------------------------------------------------------------


def config_of(write: Callable[[str, str], Path], text: str) -> ModuleType:
    return execute(str(write("resqued.conf.py", text))).module


def test_in_the_config_file_a_plain_function_with_a_hooks_name_is_that_hook(write, place):
    text = """
        from other import before_fork
        workers = 3
        def worker_count(current): return current + 1
        def perform_job(job):
            return (yield) * 2
        def _helper(): pass
        def helper(): pass
    """
    write("other.py", "def before_fork(worker): pass\n")
    sys.path.insert(0, str(place))  # as the command line does before it reads the file
    plugins = load_plugins([], config_module=config_of(write, text))
    assert plugins.found[0].name == "resqued.conf.py"
    assert plugins.found[0].hooks == ("worker_count", "perform_job")
    assert plugins.hooks().ask("worker_count", arbiter=None, current=1) == 2
    assert plugins.hooks().perform(lambda: 21, worker=None, job=None) == 42


def test_a_marked_function_in_the_config_file_gives_order(write):
    text = "from resqued import hookimpl\n@hookimpl(trylast=True)\ndef worker_count(): return 1\n"
    write("mine.py", "from resqued import hookimpl\n@hookimpl\ndef worker_count(): return 2\n")
    plugins = load_plugins(["mine"], config_module=config_of(write, text))
    assert plugins.hooks().ask("worker_count", arbiter=None, current=0) == 2


def test_a_slip_in_the_config_file_is_an_error(write):
    module = config_of(write, "workers = 2\n\ndef after_frok(worker): pass\n")
    assert one_error(config_module=module) == (
        "plugin 'resqued.conf.py' (resqued.conf.py:3) implements an unknown hook 'after_frok'.\n"
        "  Did you mean after_fork(worker)?\n"
        "  See resqued --list-hooks; a hook of a newer resqued, or of a plugin that may be absent:"
        " @hookimpl(optionalhook=True)."
    )


def test_a_wrong_argument_in_the_config_file_is_an_error(write):
    module = config_of(write, "def after_fork(wroker): pass\n")
    assert "(resqued.conf.py:1): after_fork has no argument 'wroker'." in one_error(
        config_module=module
    )


def test_functions_that_are_merely_alike_are_left_alone(write):
    text = "def ticks(): pass\ndef configure_logging(config): pass\ndef after_jobs(x): pass\n"
    plugins = load_plugins([], config_module=config_of(write, text))
    assert plugins.found[0].hooks == ()


# --- once more, on a reload ------------------------------------------------------------------


def test_a_reload_keeps_installed_plugins_and_takes_the_config_file_anew(install, write):
    install("acme-alpha", "alpha", "acme_alpha")
    install("acme-beta", "beta", "acme_beta")
    write("mine.py", HOOK)
    text = "def tick(now): pass\n"
    old = load_plugins(["no:beta", "./mine.py"], config_module=config_of(write, text))
    new = load_plugins(["no:alpha", "./mine.py"], config_module=config_of(write, text))
    assert old.manager is not new.manager
    assert new.manager.get_plugin("mine") is old.manager.get_plugin("mine")
    assert sorted(new.new_since(old)) == ["beta", "resqued.conf.py"]
    assert sorted(old.dropped_by(new)) == ["alpha", "resqued.conf.py"]


def test_loading_leaves_no_trace_on_the_path_unless_a_module_is_named(place, write):
    before = list(sys.path)
    load_plugins([])
    assert sys.path == before
    write("mine.py", HOOK)
    load_plugins(["mine"])
    assert sys.path[-1] == str(place)
    load_plugins(["mine"])
    assert sys.path.count(str(place)) == 1
