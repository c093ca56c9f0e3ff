"""What a plugin can do around the life of generations and workers: environment, vetoes, reloads."""

from __future__ import annotations

import textwrap

import pytest

from harness import jobs
from harness.waiting import wait_for

APP = """
    import os
    print("X is", os.environ.get("X"), flush=True)
"""


def rewrite(arbiter, config: str) -> None:
    (arbiter.directory / "resqued.conf.py").write_text(textwrap.dedent(config))


def test_the_environment_set_in_arbiter_started_reaches_the_first_generation(resqued):
    arbiter = resqued(
        "-r",
        "app",
        "-v",
        app=APP,
        config="""
            import os
            def arbiter_started(): os.environ["X"] = "1"
        """,
    )
    arbiter.wait_for("X is 1")
    arbiter.wait_for("a plugin has changed the environment: the fork server is started anew")
    arbiter.wait_for_workers(1)
    assert "X is None" not in arbiter.log()


def test_fork_server_env_sets_the_environment_of_each_generation(resqued):
    config = """
        def fork_server_env(env):
            env["X"] = env.get("X", "") + "{mark}"
            del env["GONE"]
    """
    arbiter = resqued("-r", "app", app=APP, config=config.replace("{mark}", "a"), GONE="1")
    arbiter.wait_for("X is a$")
    arbiter.wait_for_workers(1)
    rewrite(arbiter, config.replace("{mark}", "b"))
    arbiter.signal("HUP")
    arbiter.wait_for("X is b$")
    arbiter.wait_for("gen=2 in service")


def test_the_first_fork_server_is_kept_if_nothing_has_changed_the_environment(resqued):
    arbiter = resqued(
        "-v",
        config="""
            def arbiter_started(): pass
            def fork_server_env(env): env["PATH"] = env["PATH"]
        """,
    )
    arbiter.wait_for_workers(1)
    assert "started anew" not in arbiter.log()


def test_what_cannot_be_in_an_environment_is_left_out_and_named(resqued):
    arbiter = resqued(
        "-r",
        "app",
        app=APP,
        config="""
            def fork_server_env(env):
                env.update({"X": "1", "N": 5, "A=B": "x", "NUL": "a\\0b", 7: "x"})
        """,
        expect_errors="fork_server_env",
    )
    arbiter.wait_for("X is 1")
    arbiter.wait_for_workers(1)
    for wrong in (r"env\['N'\] = 5", r"env\['A=B'\]", r"env\['NUL'\]", r"env\[7\]"):
        arbiter.wait_for(f"hook fork_server_env: {wrong}.* is left out", timeout=0)


def test_before_load_runs_before_the_application_is_imported(resqued):
    arbiter = resqued(
        "-r",
        "app",
        app=APP,
        config="""
            import os
            def before_load(generation):
                os.environ["X"] = f"{generation.number} {' '.join(generation.modules)}"
        """,
    )
    arbiter.wait_for("X is 1 app$")
    arbiter.wait_for_workers(1)


def test_before_load_that_raises_fails_the_generation(resqued):
    config = "def before_load(generation): raise OSError('no licence')"
    arbiter = resqued(config=config, expect_errors=".")
    assert arbiter.exit() == 78
    assert "hook before_load: plugin 'resqued.conf.py' raised OSError: no licence" in arbiter.log()


def test_a_port_that_the_config_file_opens_is_free_for_its_successor(resqued):
    """The old file is told that it is dropped before the new one is started."""
    config = """
        import socket
        _listener = socket.socket()
        def arbiter_started(arbiter, reason):
            _listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _listener.bind(("127.0.0.1", {port}))
            _listener.listen()
            print("listens", reason, flush=True)
        def arbiter_stopping(arbiter, graceful, dropped):
            _listener.close()
            print("closed, dropped:", dropped, flush=True)
    """
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    arbiter = resqued(config=config.replace("{port}", port))
    arbiter.wait_for("listens start")
    arbiter.wait_for_workers(1)
    rewrite(
        arbiter, config.replace("{port}", port).replace("import socket", "import socket  # changed")
    )
    arbiter.signal("HUP")
    arbiter.wait_for("closed, dropped: True\nlistens reload")
    arbiter.wait_for("gen=2 in service")
    assert arbiter.stop("QUIT") == 0
    arbiter.wait_for("closed, dropped: False", timeout=0)


@pytest.mark.parametrize(
    ("value", "wait"),
    [("'5'", "1"), ("None", "1"), ("float('nan')", "1"), ("True", "1")],
)
def test_a_retry_after_that_is_no_number_is_named_and_a_second_is_taken(resqued, value, wait):
    arbiter = resqued(
        config=f"""
            from resqued import VetoFork
            def before_fork(worker): raise VetoFork("not yet", retry_after={value})
        """,
        expect_errors="retry_after",
    )
    arbiter.wait_for(rf"worker=1 not forked, vetoed: not yet; again in {wait} s")
    arbiter.wait_for(r"hook before_fork: VetoFork\(retry_after=.*\) is no number of seconds")


@pytest.mark.parametrize(("value", "wait"), [("0", "0.1"), ("-3", "0.1"), ("1e9", "3600")])
def test_a_retry_after_is_brought_within_its_limits_and_vetoes_are_thinned(resqued, value, wait):
    arbiter = resqued(
        config=f"""
            from resqued import VetoFork
            def before_fork(worker): raise VetoFork("not yet", retry_after={value})
        """
    )
    arbiter.wait_for(rf"vetoed: not yet; again in {wait} s")
    if wait == "0.1":
        arbiter.wait_for("vetoed: not yet, 10 times in a row; again in 0.1 s")
        assert len(arbiter.wait_for("vetoed")) == 2


def test_a_veto_of_the_trial_worker_puts_the_reload_off(resqued):
    config = """
        import os
        from resqued import VetoFork
        def before_fork(worker):
            if worker.trial and not os.path.exists("go"):
                raise VetoFork(f"worker {worker.number} not yet", retry_after=0.2)
    """
    arbiter = resqued(config=config)
    arbiter.wait_for_workers(1)
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 trial worker not forked, vetoed: worker 0 not yet; again in 0.2 s")
    arbiter.wait_for("vetoed: worker 0 not yet, 10 times in a row")
    (arbiter.directory / "go").touch()
    arbiter.wait_for("gen=2 in service")


def test_a_trial_worker_that_is_vetoed_for_too_long_fails_the_reload(resqued):
    config = """
        from resqued import VetoFork
        def before_fork(worker):
            if worker.trial:
                raise VetoFork("never", retry_after=0.2)
    """
    arbiter = resqued("--boot-timeout", 8, config=config, expect_errors="reload failed")
    arbiter.wait_for_workers(1)
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed, gen=1 stays in service: not up after 8 s.*vetoed: never")


def test_the_facts_of_an_exit(resqued, queue):
    config = """
        def worker_exited(arbiter, worker, exit):
            print("exit:", exit.reason, exit.function, exit.job_id is not None, flush=True)
        def job_lost(arbiter, worker, job_id, verdict):
            print("lost:", worker.number, worker.function, job_id, verdict, flush=True)
    """
    arbiter = resqued("-n", 1, config=config, expect_errors="died|ended|killed")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.kill_self)
    arbiter.wait_for("exit: died harness.jobs.kill_self True")
    arbiter.wait_for(f"lost: 1 harness.jobs.kill_self {job.id} failed")
    wait_for(lambda: job.is_failed, what="the job to fail")
    arbiter.wait_for_workers(1)
    arbiter.signal("TTOU")
    arbiter.wait_for("exit: asked None False")
