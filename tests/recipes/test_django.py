"""examples/django: `-p django` beside manage.py, against a PostgreSQL whose backends are killed."""

from __future__ import annotations

import re
import shutil

import pytest

from harness.waiting import wait_for
from recipes.conftest import EXAMPLES

SITE = EXAMPLES / "django"


@pytest.fixture
def site(postgres, valkey, call):
    """The variables of the site, whose database has its tables."""
    env = {**postgres.environment, "SHOP_REDIS": valkey.url}
    call("python", "manage.py", "migrate", "--verbosity", 0, cwd=SITE, **env)
    return env


@pytest.fixture
def start(site, resqued, programs):
    """Start resqued as the README does, but from a directory of its own."""

    def start(*words, **how):
        return resqued(
            *("-p", "django", "-r", "shop.tasks", "--path", SITE, *words),
            command=str(programs / "resqued"),
            **{"RQ_REDIS_URL": "", **site, **how},
        )

    return start


@pytest.fixture
def order(call, site):
    """Order so many articles with the management command; their numbers."""

    def order(count=1):
        told = [
            call("python", "manage.py", "order", "book", cwd=SITE, **site) for _ in range(count)
        ]
        return [int(text.split()[-1]) for text in told]

    return order


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_jobs_go_on_when_backends_are_killed_between_them(
    start, order, postgres, queue, ends, isolation
):
    arbiter = start("-n", 1, "--isolation", isolation)
    arbiter.wait_for_workers(1)
    [number] = order()
    mail = wait_for(lambda: _of(queue("mails"), "mail"), 20, "the mail, when the order is stored")
    assert ends(mail) == f"order {number} is paid: True"
    for _ in range(5):
        if isolation == "worker":
            wait_for(postgres.backends, 10, "the worker to have kept its connection")
        postgres.kill_backends()
        assert ends(queue().enqueue("shop.tasks.mail", number)) == f"order {number} is paid: True"
    assert arbiter.stop("QUIT") == 0
    wait_for(lambda: not postgres.backends(), 10, "no connection to be left")


def test_jobs_go_on_after_a_restart_of_the_database(start, order, postgres, queue, ends):
    arbiter = start("-n", 2)
    arbiter.wait_for_workers(2)
    [number] = order()
    wait_for(lambda: len(postgres.backends()) >= 1, 20, "a connection")
    postgres.stop()
    ends(queue().enqueue("shop.tasks.mail", number), "failed")
    postgres.start()
    for _ in range(4):
        ends(queue().enqueue("shop.tasks.mail", number))
    assert "OperationalError" in arbiter.log()
    arbiter.expect_errors = "mail|Traceback|rq.worker|Error"
    assert arbiter.stop() == 0
    postgres.stop()


def test_what_the_import_has_connected_is_not_shared(start, order, postgres, queue, ends, tmp_path):
    """A query while the application is loaded: Django keeps the connection, a fork copies it."""
    (tmp_path / "early.py").write_text(
        "from shop.models import Order\nfrom django.db import connections\n"
        "Order.objects.count()\nassert connections['default'].connection\n"
        "def pid():\n    with connections['default'].cursor() as cursor:\n"
        "        return cursor.execute('SELECT pg_backend_pid()').fetchone()[0]\n"
    )
    arbiter = start("-n", 2, "-r", "early", "--path", tmp_path)
    arbiter.wait_for_workers(2)
    assert not postgres.backends()
    assert "connections open" not in arbiter.log()
    jobs = [queue().enqueue("early.pid") for _ in range(20)]
    used = {ends(job) for job in jobs}
    assert used == {each.pid for each in postgres.backends()}


def test_the_settings_of_the_site_are_read(start, site, call, valkey, queue, ends):
    arbiter = start("-n", 1)
    arbiter.wait_for_workers(1)
    assert [name for worker in arbiter.status()["workers"] for name in worker["queues"]] == [
        "default",
        "mails",
    ]
    words = ("-p", "django", "--path", SITE, "--print-config")
    told = call("resqued", *words, **site)
    assert re.search(r"^queues +.*default.*mails", told, re.MULTILINE), told


def test_settings_that_cannot_be_read_are_an_error_with_the_reason(call, tmp_path):
    told = call("resqued", "-p", "django", code=78)
    assert "give --django-settings MODULE" in told
    told = call("resqued", "-p", "django", "--django-settings", "nowhere.settings", code=78)
    assert "module nowhere.settings, cannot be read: ModuleNotFoundError: No module" in told


def test_a_reload_reads_the_settings_anew(resqued, programs, valkey, tmp_path):
    shutil.copytree(SITE, tmp_path / "site")
    settings = tmp_path / "site" / "mysite" / "settings.py"
    text = settings.read_text()
    arbiter = resqued(
        *("-n", 1, "-p", "django", "--path", tmp_path / "site"),
        command=str(programs / "resqued"),
        expect_errors="canary",
        RQ_REDIS_URL="",
        SHOP_REDIS=valkey.url,
    )
    arbiter.wait_for_workers(1)
    settings.write_text(text.replace('"mails":', '"reports": {"URL": _REDIS},\n    "mails":'))
    done = arbiter.control("reload", "--wait")
    assert done.returncode == 0, done.stderr
    served = ["default", "reports", "mails"]
    wait_for(lambda: arbiter.status()["workers"][0]["queues"] == served, 20, "the queues")
    settings.write_text("raise RuntimeError('canary')\n")
    done = arbiter.control("reload", "--wait")
    assert done.returncode == 1
    assert "RuntimeError: canary" in done.stdout + done.stderr
    assert arbiter.status()["workers"][0]["queues"] == served


def _of(queue, name):
    """A job of this function, waiting or begun or done."""
    registries = (queue.finished_job_registry, queue.started_job_registry)
    ids = [*queue.job_ids, *(each for registry in registries for each in registry.get_job_ids())]
    jobs = filter(None, map(queue.fetch_job, ids))
    return next((job for job in jobs if job.func_name.endswith(f".{name}")), None)
