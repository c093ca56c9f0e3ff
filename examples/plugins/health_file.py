"""A file that is touched while there are workers, for a health check by its age.

resqued -p examples/plugins/health_file.py --health-file-path /run/resqued/healthy
"""

from pathlib import Path

from resqued import hookimpl


@hookimpl
def add_options(options):
    options.add("--health-file-path", default="", help="Touch this once a second.")


@hookimpl
def tick(arbiter):
    if arbiter.config.health_file_path and arbiter.workers:
        Path(arbiter.config.health_file_path).touch()


@hookimpl
def arbiter_exited(arbiter):
    if arbiter.config.health_file_path:
        Path(arbiter.config.health_file_path).unlink(missing_ok=True)
