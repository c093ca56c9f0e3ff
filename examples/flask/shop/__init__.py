"""A Flask application with SQLAlchemy and one queue."""

import os

import click
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from rq import Queue

db = SQLAlchemy()


def create_app():
    app = Flask(__name__)
    # PGHOST, PGUSER ... are read by libpq
    database = os.environ.get("SHOP_DATABASE", "postgresql+psycopg:///shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    # tests a connection when it is taken from the pool: no job fails for a restart of the database
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    db.init_app(app)

    @app.cli.command("create")
    def create():
        """Create the tables."""
        from shop import models  # noqa: F401 (so that they are known)

        db.create_all()

    @app.cli.command("order")
    @click.argument("article")
    def order(article):
        """Order an article."""
        from shop.models import Order

        new = Order(article=article)
        db.session.add(new)
        db.session.commit()  # before it is enqueued, or the worker would not find it
        connection = Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://localhost:6379"))
        Queue(connection=connection).enqueue("shop.tasks.pay", new.id)
        click.echo(f"order {new.id}")

    return app
