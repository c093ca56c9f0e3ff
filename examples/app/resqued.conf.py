"""The demo's configuration, found because it lies in the directory that resqued starts in."""

from pathlib import Path

workers = 8
queues = {
    "critical": "all",  # every worker looks here first
    "high": 6,  # workers 1 to 6
    "low": 0.25,  # a quarter of the workers: 1 and 2
    "*": "all",  # whatever other queue there is
}
require = ["shop"]
plugins = ["embedded"]  # a private Valkey; in production: redis = "redis://..."


def after_job(worker, job, outcome):
    """Runs in the worker: a receipt for the table at the end of the demo."""
    with (Path(worker.config.state) / "receipts").open("a") as receipts:
        receipts.write(f"{job.origin} {worker.number} {outcome.status}\n")
