"""What a reload does to plugins: the arbiter keeps what it has imported, and says so."""

from __future__ import annotations

import os
import textwrap

import pytest

from harness.waiting import wait_for


@pytest.fixture
def start(resqued, tmp_path):
    """Start resqued with a plugin in a package, and a config file; `write` changes a file of it."""
    package = tmp_path / "code" / "acme"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()

    def write(name: str, text: str) -> None:
        (package / name).write_text(textwrap.dedent(text))

    def start(text: str, *arguments: str, **more: str):
        write("metrics.py", text)
        flags = ["--path", package.parent, "-p", "acme.metrics", *arguments]
        arbiter = resqued(*flags, **more)
        arbiter.wait_for_workers(1)
        return arbiter, write

    return start


TICKS = """
from acme import inner
from resqued import hookimpl

@hookimpl
def tick(now): pass
"""
CHANGED = (
    r"WARNING arbiter plugin 'acme\.metrics' has changed on disk since the arbiter imported it"
)


def test_a_plugin_that_has_changed_on_disk_is_named_at_a_reload(start, tmp_path):
    (tmp_path / "code/acme/inner.py").write_text("A = 1\n")
    arbiter, write = start(TICKS)
    os.utime(tmp_path / "code/acme/metrics.py", (1, 1))  # the same content, deployed again
    arbiter.signal("HUP")
    arbiter.wait_for(r"gen=2 in service")
    assert "has changed on disk" not in arbiter.log()
    write("inner.py", "A = 2\n")
    arbiter.signal("HUP")
    arbiter.wait_for(CHANGED + r" \(.*acme/inner\.py\); .* the arbiter with USR2$")
    arbiter.wait_for(r"gen=3 in service")
    before = arbiter.mark()
    arbiter.signal("USR2")
    arbiter.wait_for(r"gen=4 in service", after=before, timeout=30)
    assert "has changed on disk" not in arbiter.log()[before:]


def test_one_that_does_nothing_in_the_arbiter_is_not(start):
    text = "from resqued import hookimpl\n\n@hookimpl\ndef after_fork(worker): pass\n"
    arbiter, write = start(text)
    write("metrics.py", f"{text}A = 1\n")
    arbiter.signal("HUP")
    arbiter.wait_for(r"gen=2 in service")
    assert "has changed on disk" not in arbiter.log()


OPTIONS = """
from resqued import hookimpl

@hookimpl
def add_options(options):
    options.add("--metrics-{name}", default="x")

@hookimpl
def after_fork(worker):
    print("option", worker.config.metrics_{name}, flush=True)
"""


def test_one_whose_options_have_changed_refuses_the_reload(start):
    arbiter, write = start(
        OPTIONS.format(name="host"), expect_errors=r"gen=2 failed|reload failed, gen=1"
    )
    worker = arbiter.workers()[1].pid
    write("metrics.py", OPTIONS.format(name="port"))
    arbiter.signal("HUP")
    arbiter.wait_for(
        r"reload failed, gen=1 stays in service: the options of plugin 'acme\.metrics' on disk are"
        r" not those that the arbiter has loaded: --metrics-port added, --metrics-host removed;"
        r" send USR2 to the arbiter"
    )
    assert arbiter.workers()[1].pid == worker
    arbiter.signal("USR2")
    arbiter.wait_for(r"gen=\d+ in service", timeout=30)
    arbiter.wait_for(r"worker=1 gen=3 .* ready", timeout=20)


def test_a_dead_fork_server_is_replaced_all_the_same(start):
    """Not a reload: an old plugin with new hooks in its workers is better than no workers."""
    arbiter, write = start(OPTIONS.format(name="host"), expect_errors="fork server ended")
    write("metrics.py", OPTIONS.format(name="host").replace("--metrics-host", "--metrics-hosts"))
    arbiter.signal("KILL", pid=arbiter.fork_servers()[0].pid)
    arbiter.wait_for(r"worker=1 .* ready", times=2, timeout=20)


DECLARES = """
from resqued import hookimpl, hookspec

class Specs:
    @hookspec(firstresult=True)
    def metrics_name(self, number): "The name of a metric."

class Metrics:
    def add_hookspecs(self, manager):
        manager.add_hookspecs(Specs)
        self.manager = manager

    @hookimpl
    def tick(self, now):
        with open("names", "a") as file:
            print(self.manager.hook.metrics_name(number=1), file=file)

    @hookimpl
    def app_loaded(self, generation):
        print("fork server:", self.manager.hook.metrics_name(number=2), flush=True)

    @hookimpl
    def after_fork(self, worker):
        print("worker:", self.manager.hook.metrics_name(number=3), flush=True)

plugin = Metrics()
"""


def test_a_hook_that_a_plugin_declares_is_called_as_it_is_in_force(start, tmp_path):
    config = "def metrics_name(number): return f'{word}-{{number}}'\n"
    (tmp_path / "code/acme/other.py").write_text(DECLARES)
    arbiter, _ = start(
        "A = 1\n",
        "-p",
        "acme.other:plugin",
        config=config.format(word="old"),
        expect_errors=".",
    )
    names = arbiter.directory / "names"

    def newest() -> str:
        size = names.stat().st_size
        wait_for(lambda: names.stat().st_size > size, 10, "a tick")
        return names.read_text().splitlines()[-1]

    arbiter.wait_for(r"^fork server: old-2")
    arbiter.wait_for(r"^worker: old-3")
    assert newest() == "old-1"
    file = arbiter.directory / "resqued.conf.py"
    file.write_text(config.format(word="bad") + "def app_loaded(generation): 1 / 0\n")
    arbiter.signal("HUP")
    arbiter.wait_for(r"reload failed, gen=1 stays in service")
    assert newest() == "old-1"
    file.write_text(config.format(word="new"))
    arbiter.signal("HUP")
    arbiter.wait_for(r"gen=3 in service")
    assert newest() == "new-1"
    arbiter.wait_for(r"^worker: new-3")


def test_a_changed_list_of_plugins(resqued):
    plugin = """
    from resqued import hookimpl

    @hookimpl
    def arbiter_started(arbiter, reason): print("{name} started", reason, flush=True)

    @hookimpl
    def arbiter_stopping(dropped): print("{name} stopping", dropped, flush=True)
    """
    arbiter = resqued(config="plugins = []\n")
    for name in ("one", "two"):
        path = arbiter.directory / f"{name}.py"
        path.write_text(textwrap.dedent(plugin).format(name=name))
    arbiter.wait_for_workers(1)
    conf = arbiter.directory / "resqued.conf.py"
    lists = ["['./one.py']", "['./one.py', './two.py']", "['./one.py', './two.py', 'no:./one.py']"]
    told = [["one started reload"], ["two started reload"], ["one stopping True"]]
    for generation, (words, lines) in enumerate(zip(lists, told, strict=True), start=2):
        before = arbiter.mark()
        conf.write_text(f"plugins = {words}\n")
        arbiter.signal("HUP")
        arbiter.wait_for(rf"gen={generation} in service", after=before)
        arbiter.wait_for(rf"gen={generation - 1} retired", after=before, timeout=20)
        log = arbiter.log()[before:].splitlines()
        assert [line for line in log if line.startswith(("one ", "two "))] == lines
