"""Connections of Django and SQLAlchemy: none is shared by two workers, none is kept when broken.

resqued -p examples/plugins/connections.py --connections-engine myapp.db:engine -r myapp
"""

import importlib
import sys

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--connections-engine", default=None, help="SQLAlchemy's engine, MODULE:NAME.")


@hookimpl
def app_loaded(generation):
    if django := sys.modules.get("django.db"):
        django.connections.close_all()


@hookimpl
def after_fork(worker):
    if engine := worker.config.connections_engine:
        module, _, name = engine.partition(":")  # not before: the arbiter has no application
        getattr(importlib.import_module(module), name).dispose(close=False)


@hookimpl
def before_job(worker, job):  # as Django does around a request
    if django := sys.modules.get("django.db"):
        django.close_old_connections()


@hookimpl
def after_job(worker, job):
    if django := sys.modules.get("django.db"):
        django.close_old_connections()
