"""examples/tls: a server that speaks TLS only and wants certificates, alone and with Sentinel."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import quote

import pytest
from rq import Queue

from harness import jobs, needs
from harness.redis_cluster import RedisProcess, Replicated
from harness.waiting import wait_for
from recipes.conftest import EXAMPLES
from recipes.failover import survive
from recipes.test_sentinel import FILES
from resqued.broker import tls
from server.conftest import directory  # noqa: F401 (fixture)

HERE = EXAMPLES / "tls"
SERVER = (HERE / "redis.conf").read_text()


@pytest.fixture
def keys(directory):  # noqa: F811
    """The folder with the files that the recipe's script has made."""
    needs.program("openssl", "openssl")
    folder = directory / "keys"
    folder.mkdir()
    subprocess.run([HERE / "certificates", "localhost", "127.0.0.1"], cwd=folder, check=True)
    return folder


@pytest.fixture
def text(keys):
    """The recipe's configuration, with these files."""
    return SERVER.replace("/etc/redis", str(keys))


@pytest.fixture
def options(keys):
    """What a client needs."""
    return {
        "ssl_ca_certs": str(keys / "ca.crt"),
        "ssl_certfile": str(keys / "resqued.crt"),
        "ssl_keyfile": str(keys / "resqued.key"),
    }


@pytest.fixture
def secure(server, directory, text, options):  # noqa: F811
    started = RedisProcess(directory, text, tls=options, password=None)
    yield started
    started.kill()


def url(server, options):
    return f"rediss://127.0.0.1:{server.port}/0?" + "&".join(f"{k}={v}" for k, v in options.items())


def test_jobs_run_over_tls(secure, options, resqued):
    arbiter = resqued("-n", 2, RQ_REDIS_URL=url(secure, options))
    arbiter.wait_for_workers(2)
    with secure.client() as client:
        done = [Queue(connection=client).enqueue(jobs.noop) for _ in range(10)]
        for job in done:
            wait_for(lambda job=job: job.get_status() == "finished", 20, "a job")
    assert arbiter.stop("QUIT") == 0


def test_an_authority_that_is_missing_is_said(secure, options, resqued):
    missing = {k: v for k, v in options.items() if k != "ssl_ca_certs"}
    arbiter = resqued("-n", 1, RQ_REDIS_URL=url(secure, missing), expect_errors=r"ERROR|rror")
    arbiter.wait_for("(?i)certificate verify failed.*ssl_ca_certs=FILE", timeout=20)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ssl_ca_certs": "/nowhere/ca.crt"}, "ssl_ca_certs: No such file.*'/nowhere/ca.crt'"),
        ({"ssl_ca_certs": "/etc/passwd"}, "ssl_ca_certs: '/etc/passwd' has no certificate"),
        ({"ssl_certfile": "/nowhere/x"}, "ssl_certfile: No such file or directory: '/nowhere/x'"),
        ({"ssl_keyfile": "/nowhere/x"}, "ssl_keyfile: No such file or directory: '/nowhere/x'"),
        ({"ssl_keyfile": None}, "has no certificate with its key; .*ssl_keyfile=FILE"),
        ({"ssl_keyfile": "redis.key"}, "the key '.*redis.key' is not that of the certificate"),
    ],
)
def test_a_file_that_is_of_no_use_is_said(keys, options, wrong, said):
    given = {name: value and str(keys / value) for name, value in {**options, **wrong}.items()}
    given = {name: value for name, value in given.items() if value}
    for scheme, prefix in (("rediss", ""), ("rediss+sentinel", "sentinel_")):
        query = "&".join(f"{prefix}{name}={value}" for name, value in given.items())
        diagnosis = tls.diagnose(f"{scheme}://127.0.0.1:1/0?{query}", OSError("anything"), 0.1)
        assert diagnosis is not None
        assert re.search(prefix + said if said.startswith("ssl_") else said, diagnosis.text)
        assert diagnosis.needs_person


def test_files_that_are_right_are_not_blamed(keys, options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    assert tls.diagnose(f"rediss://127.0.0.1:1/0?{query}", OSError("refused"), 0.1) is None


def test_a_key_that_is_missing_is_said(secure, options, resqued):
    missing = {**options, "ssl_keyfile": "/nowhere/resqued.key"}
    arbiter = resqued("-n", 1, RQ_REDIS_URL=url(secure, missing), expect_errors=r"ERROR|rror")
    arbiter.wait_for("ERROR .*ssl_keyfile: No such file .*'/nowhere/resqued.key'", timeout=20)


def test_a_certificate_that_is_missing_is_said(secure, options, resqued):
    """The server's alert is not in redis-py's error, which is of the writing that came first."""
    arbiter = resqued(
        *("-n", 1),
        RQ_REDIS_URL=url(secure, {"ssl_ca_certs": options["ssl_ca_certs"]}),
        expect_errors=r"ERROR|rror",
    )
    arbiter.wait_for("ERROR .*certificate required: .*ssl_certfile=FILE", timeout=20)


@pytest.mark.parametrize("password", ["", "pass word"])
def test_a_certificate_that_is_refused_is_said(secure, options, resqued, tmp_path, password):
    """Also if its key has a password, which nobody is asked for at the terminal."""
    make = "openssl req -x509 -newkey rsa:2048 -subj /CN=own -keyout own.key -out own.crt"
    secret = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run([*make.split(), *secret], cwd=tmp_path, check=True, capture_output=True)
    refused = options | {
        "ssl_certfile": str(tmp_path / "own.crt"),
        "ssl_keyfile": str(tmp_path / "own.key"),
    }
    if password:
        refused["ssl_password"] = quote(password)
    arbiter = resqued("-n", 1, RQ_REDIS_URL=url(secure, refused), expect_errors=r"ERROR|rror")
    arbiter.wait_for(
        "ERROR .*unknown ca: .*refuses the client's certificate '.*own.crt'", timeout=20
    )


@pytest.fixture
def replicated(server, directory, text, options):  # noqa: F811
    replicated = Replicated(directory, FILES, (text, options))
    yield replicated
    replicated.close()


def test_a_failover_under_load_over_tls(replicated, resqued):
    survive(replicated, resqued)
