"""Whose a request or a function is that comes from a thread: for the log, and for a reload."""

from __future__ import annotations

import re
import textwrap

from harness.remote import Remote

REMOTE = ("-p", "harness.remote")


def test_a_request_of_a_periodic_function_names_its_plugin(resqued):
    arbiter = resqued(
        "-n",
        1,
        config="""
            def arbiter_started(arbiter):
                arbiter.every(0.1, lambda: arbiter.wished == 2 or arbiter.scale(2))
        """,
    )
    arbiter.wait_for(r"scale 2: asked for by plugin 'resqued\.conf\.py'")
    arbiter.wait_for_workers(2)


def test_a_function_of_no_plugin_is_the_plugins_that_asks_for_it(resqued, tmp_path):
    """Also one that is written in C."""
    second = tmp_path / "second.py"
    text = """
        import functools
        from resqued import hookimpl

        @hookimpl
        def arbiter_started(arbiter):
            arbiter.every(0.05, functools.partial(int, "x"))
            arbiter.call_soon(functools.partial(int, "y"))
    """
    second.write_text(textwrap.dedent(text))
    config = f"plugins = [{str(second)!r}]\n"
    arbiter = resqued("-n", 1, config=config, expect_errors="every|call_soon|^ {4}|Traceback")
    arbiter.wait_for(r"plugin 'second': every 0.05 s: ValueError: invalid literal .*'x'")
    arbiter.wait_for(r"hook call_soon: plugin 'second' raised ValueError: invalid literal .*'y'")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "resqued.conf.py").write_text("plugins = []\n")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    arbiter.wait_for(r"gen=1 retired")
    mark = arbiter.mark()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 retired")
    assert not re.search("every 0.05 s", arbiter.log()[mark:]), "its thread has ended"


def test_a_function_of_a_module_in_the_plugins_package_is_the_plugins(resqued, tmp_path):
    package = tmp_path / "tea"
    package.mkdir()
    (package / "pot.py").write_text("def boil(): raise OSError('dry')\n")
    text = """
        import threading
        from resqued import hookimpl
        from tea import pot

        @hookimpl
        def arbiter_started(arbiter):
            threading.Thread(target=arbiter.every, args=(0.05, pot.boil), daemon=True).start()
    """
    (package / "__init__.py").write_text(textwrap.dedent(text))
    arbiter = resqued("-P", tmp_path, "-p", "tea", expect_errors="every")
    arbiter.wait_for(r"plugin 'tea': every 0.05 s: OSError: dry")


def test_any_number_of_seconds_is_taken(resqued):
    arbiter = resqued("-n", 1, *REMOTE)
    arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    assert remote.eval("arbiter.every(10**400, print).done") is False
    assert remote.eval("arbiter.scale(1).wait(10**10)") is True
    assert remote.eval("arbiter.scale(1).wait(float('inf'))") is True
