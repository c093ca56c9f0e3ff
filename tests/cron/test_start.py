"""`--cron` with the real command: what is wrong refuses a start, a reload and --check."""

from __future__ import annotations

import pytest

from harness.command import run

HEAD = """
    from rq import cron
    from resqued.cron import register

    def clean(): pass

"""

WRONG = """
    register(clean, 'default', cron='61 * * * *')
    cron.register(clean, 'default', cron='0 0 30 2 *')
    register(lambda: 1, 'default', interval=0)
"""

ERRORS = (
    "hook app_loaded: cron: 4 errors\n"
    "  jobs.py:7: cron job 'jobs.clean': cron expression '61 * * * *': [61 * * * *] is not"
    " acceptable, out of range\n"
    "  jobs.py:8: cron job 'jobs.clean': cron expression '0 0 30 2 *' never comes\n"
    "  jobs.py:9: a cron job: jobs.<lambda> is a lambda, and a worker imports functions by name;"
    " def it\n"
    "  jobs.py:9: a cron job: interval=0 is too short; at least 1 seconds\n"
)


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        file = tmp_path / name
        file.write_text("\n".join(line[4:] for line in (HEAD + text).splitlines()[1:]))
        return file

    return write


def in_log(text):
    """As it looks in the log: each line further to the right."""
    return text.replace("\n  ", "\n      ").rstrip("\n")


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_a_check_tells_all(write, tmp_path, way):
    write("jobs.py", WRONG)
    words, env = [], {}
    if way == "flag":
        words = ["--cron", "jobs.py"]
    elif way == "variable":
        env = {"RESQUED_CRON": "jobs"}
    else:
        (tmp_path / "resqued.conf.py").write_text("cron = ['jobs']\n")
    status, _, errors = run("--check", *words, cwd=tmp_path, **env)
    assert status == 78
    assert ERRORS in errors


def test_a_start_is_refused(resqued, write):
    file = write("jobs.py", WRONG)
    arbiter = resqued("--cron", file, "--path", file.parent, expect_errors="cron|giving up|acc")
    assert arbiter.exit(20) == 78
    assert in_log(ERRORS) in arbiter.log()


def test_a_reload_is_refused_and_the_old_generation_goes_on(resqued, write, queue):
    file = write("jobs.py", "    register(clean, 'default', interval=3600)\n")
    arbiter = resqued("--cron", file, "--path", file.parent, expect_errors="cron|reload")
    arbiter.wait_for_workers(1)
    write("jobs.py", WRONG)
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed, gen=1 stays in service: hook app_loaded: cron: 4 errors")
    assert in_log(ERRORS) in arbiter.log()
    write("jobs.py", "    register(clean, 'default', interval=3600)\n")
    mark = arbiter.mark()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=1 retired", after=mark, timeout=20)


def test_queues_that_are_not_served_are_named(resqued, write):
    file = write(
        "jobs.py",
        """
    register(clean, 'high', interval=60)
    register(clean, 'low', interval=60, name='a name: with blanks')
    """,
    )
    arbiter = resqued("--cron", file, "--path", file.parent, "--queue", "high")
    [line] = arbiter.wait_for("queue 'low', which.*")
    assert line[0] == (
        "queue 'low', which is not served here, gets the cron jobs 'a name: with blanks'"
        " (served: high)"
    )
    arbiter.wait_for_workers(1)


def test_every_queue_is_served_with_the_star(write, tmp_path):
    write("jobs.py", "    register(clean, 'low', interval=60)\n")
    words = ["--check", "--cron", "jobs", "--queue"]
    status, _, errors = run(*words, "*", cwd=tmp_path)
    assert status == 0 and "not served" not in errors
    status, _, errors = run(*words, "high", cwd=tmp_path)
    assert status == 0
    assert "\nresqued: warning: queue 'low', which is not served here" in f"\n{errors}"


def test_no_cron_with_burst(resqued, write):
    file = write("jobs.py", WRONG)
    arbiter = resqued("--cron", file, "--burst")
    assert arbiter.exit(20) == 0
    assert len(arbiter.wait_for("cron: no periodic jobs with --burst")) == 1


def test_jobs_of_the_application_that_no_option_names_are_told(resqued):
    app = """
        from resqued.cron import register
        def clean(): pass
        register(clean, 'default', interval=60)
        register(clean, 'default', interval=60)
        """
    arbiter = resqued("-r", "app", app=app)
    arbiter.wait_for(
        r"2 jobs registered with resqued\.cron\.register are not in force, the first at app.py:4"
    )
    arbiter.wait_for_workers(1)


def test_jobs_that_the_application_registers_count_with_the_option(resqued, write):
    file = write("jobs.py", "    import app\n")
    app = """
        import rq.cron, resqued.cron
        def clean(): pass
        rq.cron.register(clean, 'default', interval=60)
        resqued.cron.register(clean, 'other', interval=60)
        """
    arbiter = resqued("-r", "app", "--cron", file, app=app)
    arbiter.wait_for("queue 'other', which is not served here, gets the cron jobs 'app.clean'")
    arbiter.wait_for_workers(1)


def test_a_file_that_registers_nothing_is_told(resqued, write):
    file = write("jobs.py", "")
    arbiter = resqued("--cron", file)
    arbiter.wait_for(r"cron: no job is registered by .*/jobs\.py")
    arbiter.wait_for_workers(1)


def test_a_check_names_a_file_that_does_not_end(write, tmp_path):
    write("jobs.py", "    import time\n    time.sleep(1000)\n")
    words = ["--check", "--cron", "jobs", "--boot-timeout", "3"]
    status, _, errors = run(*words, cwd=tmp_path)
    assert status == 78
    assert "took longer than 3 s, in the import of --cron jobs" in errors


def test_the_config_file_registers_nothing(tmp_path):
    (tmp_path / "resqued.conf.py").write_text(
        "from resqued.cron import register\nregister('a.b', 'default', interval=5)\n"
    )
    status, _, errors = run("--check", cwd=tmp_path)
    assert status == 78
    assert "resqued.conf.py:2: RuntimeError: a config file registers no cron jobs" in errors


def test_a_zone_that_is_not_known(write, tmp_path):
    write("jobs.py", "    register(clean, 'default', cron='@daily')\n")
    words = ["--check", "--cron", "jobs", "--cron-timezone", "Europe/Berln"]
    status, _, errors = run(*words, cwd=tmp_path)
    assert status == 78
    assert "--cron-timezone: zone 'Europe/Berln' is not known here; did you mean Eur" in errors


def test_the_modules_of_the_arbiter_stay_as_few(resqued, write):
    """It loads neither croniter nor rq, whatever the plugin does in the fork server."""
    file = write("jobs.py", "    register(clean, 'default', interval=60)\n")
    hook = """
        import sys
        def tick(arbiter):
            found = {'croniter', 'rq', 'redis', 'zoneinfo'} & set(sys.modules)
            print(f'loaded: {sorted(found)}', flush=True)
        """
    arbiter = resqued("--cron", file, "--path", file.parent, config=hook)
    arbiter.wait_for_workers(1)
    arbiter.wait_for(r"^loaded: \[\]$")
