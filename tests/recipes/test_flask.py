"""examples/flask: an application context around each job, and connections that may be killed."""

from __future__ import annotations

import shutil

import pytest

from harness.waiting import wait_for
from recipes.conftest import EXAMPLES

SITE = EXAMPLES / "flask"

ODD = """
    import os

    import shop
    from flask import current_app
    from shop import db
    from shop.models import Order
    from sqlalchemy import text

    with shop.create_app().app_context():  # a query while the application is loaded
        Order.query.count()

    def pid():
        return db.session.execute(text("SELECT pg_backend_pid()")).scalar_one()

    def context():
        return current_app.name, len(db.session.new), db.session().in_transaction()

    def leaves():
        '''A transaction that is not ended, and an object that is not stored.'''
        db.session.execute(text("UPDATE \\"order\\" SET paid = false"))
        db.session.add(Order(article="unwanted"))

    def fails():
        db.session.add_all([Order(article="twice"), Order(article="twice")])
        db.session.commit()
"""


@pytest.fixture
def site(postgres, valkey, call):
    """The variables of the application, whose database has its tables."""
    env = {**postgres.environment, "RQ_REDIS_URL": valkey.url}
    call("flask", "--app", "shop", "create", cwd=SITE, **env)
    return env


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_jobs_have_a_context_and_a_connection_that_works(
    site, postgres, resqued, programs, call, queue, ends, isolation
):
    words = ("-n", 2, "-r", "app", "--path", SITE, "--path", ".", "--isolation", isolation)
    config = (SITE / "resqued.conf.py").read_text()
    arbiter = resqued(
        *words,
        config=config,
        app=ODD,
        command=str(programs / "resqued"),
        expect_errors="fails|Traceback|rq.worker|Error",
        **site,
    )
    arbiter.wait_for_workers(2)
    number = int(call("flask", "--app", "shop", "order", "book", cwd=SITE, **site).split()[-1])
    for _ in range(4):
        assert ends(queue().enqueue("shop.tasks.pay", number)) == "book is paid"
        postgres.kill_backends()

    ends(queue().enqueue("app.leaves"))
    ends(queue().enqueue("app.fails"), "failed")
    for _ in range(4):
        assert ends(queue().enqueue("app.context")) == ("shop", 0, False)
    used = {ends(job) for job in [queue().enqueue("app.pid") for _ in range(20)]}
    if isolation == "worker":
        assert used <= {each.pid for each in postgres.backends()}, "they keep their own"
    assert arbiter.stop("QUIT") == 0
    wait_for(lambda: not postgres.backends(), 10, "no connection to be left")


def test_its_folder_is_all_it_needs(call, tmp_path):
    shutil.copytree(SITE, tmp_path / "flask")
    told = call("resqued", "--check", cwd=tmp_path / "flask")
    assert "application: shop.tasks" in told
