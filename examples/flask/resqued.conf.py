"""Flask: one application for all workers, an application context around each job."""

from resqued import hookimpl

require = ["shop.tasks"]
path = ["."]

_app = None


@hookimpl
def app_loaded(generation):
    """In the fork server, once; the arbiter, which reads this file too, loads no application."""
    global _app
    from shop import create_app, db

    _app = create_app()
    with _app.app_context():
        db.engine.dispose()  # a connection that the import has used is not shared by workers


@hookimpl(wrapper=True)
def perform_job(worker, job):
    """`current_app` works in jobs; at its end the session is rolled back and its connection goes
    back to the pool."""
    with _app.app_context():
        return (yield)
