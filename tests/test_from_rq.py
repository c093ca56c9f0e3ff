"""Coming from `rq worker` and `rq worker-pool`: their settings, variables, flags and habits."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from rq.registry import FailedJobRegistry, ScheduledJobRegistry

from harness import jobs
from harness.command import run
from harness.waiting import stays_true, wait_for
from resqued.redis_url import read_url


def server_of(tmp_path, *arguments, **env):
    """The server that a start with these would use, as `--check` prints it."""
    code, out, error = run("--check", *arguments, cwd=tmp_path, **env)
    assert code == 0, error
    match = re.search(r"workers?, (\S+)", out)
    assert match, out
    return match[1]


# --- Settings modules and variables ------------------------------------------------------------


def test_a_settings_module_names_server_queues_and_workers(resqued, valkey, queue, tmp_path):
    (tmp_path / "mysettings.py").write_text(
        f"REDIS_URL = {valkey.url!r}\nQUEUES = ['high', 'low']\nNAME = 'mailer'\n"
        "SENTRY_DSN = 'https://key@sentry.example/1'\n"
    )
    arbiter = resqued("-c", "mysettings", "--path", tmp_path, RQ_REDIS_URL="")
    job = queue("low").enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job of a queue that the module names")
    job.refresh()
    assert job.worker_name == "mailer"
    assert "mysettings: SENTRY_DSN is not used; initialise sentry_sdk" in arbiter.log()
    (tmp_path / "mysettings.py").write_text(
        f"REDIS_URL = {valkey.url!r}\nQUEUES = ['other']\nNAME = 'mailer'\n"
    )
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    again = queue("other").enqueue(jobs.noop)
    wait_for(lambda: again.is_finished, 15, "a job of a queue that the changed module names")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ("REDIS_HOST='h'; REDIS_PORT=7; REDIS_DB=3", "redis://h:7/3"),
        ("REDIS_HOST='::1'", "redis://[::1]:6379/0"),
        ("REDIS_HOST='h'; REDIS_SSL='True'", "rediss://h:6379/0"),
        (
            "REDIS_HOST='h'; REDIS_SSL=True; REDIS_SSL_CA_CERTS='/ca.pem'",
            "rediss://h:6379/0?ssl_ca_certs=%2Fca.pem",
        ),
        ("REDIS_PASSWORD='p@/w'", "redis://:***@localhost:6379/0"),
        ("REDIS_URL='redis://u:6379/1'; REDIS_HOST='h'", "redis://u:6379/1"),
    ],
)
def test_a_settings_module_is_read_as_rq_reads_it(tmp_path, settings, url):
    (tmp_path / "rqs.py").write_text(settings)
    assert server_of(tmp_path, "-c", "rqs") == url
    assert server_of(tmp_path, RQ_CONFIG="rqs") == url


def test_what_is_wrong_in_a_settings_module_is_told_with_its_name(tmp_path):
    (tmp_path / "rqs.py").write_text("REDIS_HOST = 'h'\nREDIS_PORT = 'many'\nQUEUES = ['a,b']\n")
    code, _, error = run("--check", "-c", "rqs", cwd=tmp_path)
    assert code == 78
    assert "rqs: REDIS_HOST: REDIS_PORT is not a number up to 65535" in error
    assert "rqs: QUEUES: queue 'a,b' has a comma in its name" in error
    (tmp_path / "rqs.py").write_text("import nowhere\n")
    code, _, error = run("--check", "-c", "rqs", cwd=tmp_path)
    assert code == 78
    assert "rqs: ModuleNotFoundError: No module named 'nowhere' (rqs.py:1)" in error
    code, _, error = run("--check", "-c", "nosuch", cwd=tmp_path)
    assert code == 78
    assert "-c nosuch: there is neither a file nor a module of that name" in error


def test_the_order_of_the_sources(tmp_path):
    (tmp_path / "rqs.py").write_text("REDIS_URL = 'redis://module'\n")
    sources = {
        "redis://resqued": {"RESQUED_REDIS": "redis://resqued"},
        "redis://rq": {"RQ_REDIS_URL": "redis://rq"},
        "redis://module": {"RQ_CONFIG": "rqs"},
        "redis://host:6379/0": {"REDIS_HOST": "host"},
    }
    strongest = list(sources)
    while strongest:
        env = {name: text for url in strongest for name, text in sources[url].items()}
        assert server_of(tmp_path, "--redis", "redis://flag", **env) == "redis://flag"
        assert server_of(tmp_path, **env) == strongest[0]
        strongest = strongest[1:]


def test_variables_of_the_environment_name_the_server(tmp_path):
    assert server_of(tmp_path, REDIS_URL="redis://h/2\n") == "redis://h/2"
    assert server_of(tmp_path, REDIS_HOST="h", REDIS_PORT="7", REDIS_DB="1") == "redis://h:7/1"
    code, out, error = run("--check", cwd=tmp_path, REDIS_PORT="tcp://10.0.0.1:6379")
    assert code == 0
    assert "redis://localhost:6379" in out
    assert "REDIS_PORT is a URL, as Kubernetes sets it" in error
    # nobody's mistake where another source says which server it is
    assert server_of(tmp_path, "--redis", "redis://h", REDIS_PORT="many") == "redis://h"


# --- URLs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://:p%40@h:6379/0\n", "redis://:p%40@h:6379/0"),
        (" REDIS://h", "redis://h"),
        ("redis://h?password=p%20&db=1", "redis://h?password=p%20&db=1"),
        ("redis://[::1]:6379/1", "redis://[::1]:6379/1"),
    ],
)
def test_a_url_as_secrets_and_charts_have_it(text, url):
    assert read_url(text) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("redis://::1:6379", r"write redis://\[::1\]:6379"),
        ("redis://fe80::1%eth0:6379", r"write redis://\[::1\]:6379"),
        ("redis://h/tasks", "its database is no number"),
        ("redis://h?db=tasks", "its database is no number"),
        ("redis://:p w@h", "write a blank as %20"),
        ("redis://h:99999", "port is not a number up to 65535"),
        ("http://h", "not the URL of a Redis"),
    ],
)
def test_a_url_that_cannot_be_says_why(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_url(text)


def test_a_parameter_that_no_connection_takes_is_told_with_the_one_meant(tmp_path):
    url = "redis://:hidden@h?sockettimeout=5"
    code, _, error = run("--check", "--redis", url, cwd=tmp_path)
    assert code == 78
    assert "the parameter 'sockettimeout', which no connection takes" in error
    assert "did you mean socket_timeout?" in error
    assert "hidden" not in error


def test_a_parameter_of_tls_without_tls_is_told_with_the_scheme(tmp_path):
    code, _, error = run("--check", "--redis", "redis://h?ssl_cert_reqs=none", cwd=tmp_path)
    assert code == 78
    assert "the parameter 'ssl_cert_reqs', which only a connection with TLS takes" in error
    assert "write rediss:// instead of redis://" in error


# --- Flags -----------------------------------------------------------------------------------


def test_flags_of_rq_worker_that_have_no_counterpart_are_told_apart(tmp_path):
    code, _, error = run("--job-monitoring-interval", 5, cwd=tmp_path)
    assert code == 64
    assert "no such option --job-monitoring-interval; leave it out" in error
    code, _, error = run("--log-format", "%(message)s", cwd=tmp_path)
    assert code == 64
    assert "format strings of logging are not known here" in error


def test_logging_level_and_date_format(resqued, queue):
    arbiter = resqued(
        "-n", 1, "--logging-level", "debug", "--date-format", "<%H h>", "-ds", "random"
    )
    arbiter.wait_for(r"^<\d\d h> DEBUG arbiter", timeout=15)
    quiet = resqued("-n", 1, "-l", "ERROR", "--queue", "aside")
    job = queue("aside").enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job to be done")
    assert quiet.log() == ""


def test_idle_for_so_long_and_it_leaves(resqued, queue):
    arbiter = resqued("-n", 2, "--max-idle-time", 1)
    job = queue().enqueue(jobs.noop)
    assert arbiter.exit(20) == 0
    assert job.is_finished
    assert "idle for 1" in arbiter.log()


def test_a_burst_may_wait_for_more(resqued, queue):
    arbiter = resqued("-n", 1, "--burst", "--max-idle-time", 3)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    assert arbiter.exit(20) == 0
    assert job.is_finished


def test_without_the_default_exception_handler_failed_jobs_are_in_no_registry(
    resqued, queue, connection
):
    resqued("-n", 1, "-d", expect_errors="told to fail|Traceback|failed job|rq.worker")
    job = queue().enqueue(jobs.fail)
    wait_for(lambda: job.is_failed, 15, "a job to fail")
    assert len(FailedJobRegistry("default", connection=connection)) == 0


# --- The scheduler ----------------------------------------------------------------------------


def test_scheduled_jobs_run_unless_one_says_otherwise(resqued, queue):
    resqued("-n", 1)
    job = queue().enqueue_in(timedelta(seconds=1), jobs.noop)
    wait_for(lambda: job.is_finished, 20, "a scheduled job to be done")


def test_a_scheduled_job_without_a_scheduler_is_told_of(resqued, queue, connection):
    job = queue().enqueue_in(timedelta(seconds=0), jobs.noop)
    arbiter = resqued("-n", 1, "--no-scheduler")
    arbiter.wait_for("queue=default has scheduled jobs .* and no scheduler", timeout=15)
    stays_true(lambda: not job.is_finished, 1.5, "nobody enqueues it")
    assert job.id in ScheduledJobRegistry("default", connection=connection)


# --- What TERM does ---------------------------------------------------------------------------


def test_term_can_mean_one_thing_for_one_queue_and_another_for_the_rest(
    resqued, queue, connection, gate
):
    arbiter = resqued(
        *("-n", 2, "--queue", "payments", "--queue", "mail", "--on-term", "payments=drain")
    )
    arbiter.wait_for("TERM: jobs in hand are put back and run again; those of payments: drain")
    arbiter.wait_for_workers(2)
    paying, mailing = gate(), gate()
    payment = queue("payments").enqueue(jobs.wait_at, str(paying))
    paying.wait_until_reached()
    mail = queue("mail").enqueue(jobs.wait_at, str(mailing))
    mailing.wait_until_reached()
    later = queue("payments").enqueue(jobs.noop)
    arbiter.signal("TERM")
    wait_for(lambda: mail.get_status(refresh=True) == "queued", 10, "the mail to be put back")
    stays_true(lambda: payment.get_status(refresh=True) == "started", 0.5, "it goes on")
    paying.open()
    assert arbiter.exit(10) == 0
    assert payment.is_finished
    assert connection.lrange("rq:queue:mail", 0, -1) == [mail.id.encode()]
    assert connection.lrange("rq:queue:payments", 0, -1) == [later.id.encode()]


def test_a_second_term_interrupts_all(resqued, queue, connection, gate):
    arbiter = resqued("-n", 1, "--queue", "payments", "--on-term", "payments=drain")
    there = gate()
    payment = queue("payments").enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    arbiter.signal("TERM")
    stays_true(lambda: arbiter.running, 0.5, "it goes on")
    assert arbiter.stop("TERM", timeout=6) == 0
    assert connection.lrange("rq:queue:payments", 0, -1) == [payment.id.encode()]


def test_a_queue_that_is_not_served_has_no_meaning_of_term(tmp_path):
    code, _, error = run("--check", "--on-term", "payments=drain", cwd=tmp_path)
    assert code == 64
    assert "--on-term: queue 'payments' is not served here" in error
