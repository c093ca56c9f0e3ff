"""Settings that this deployment does not want, refused at the start and by --check.

resqued -p examples/plugins/checks.py --check
"""

from resqued import ConfigError, hookimpl


@hookimpl
def configure(config):
    if config.workers < len(config.queues):
        raise ConfigError(
            "workers",
            f"{config.workers} workers for {len(config.queues)} queues",
            remedy="one for each queue at least",
        )
    if config.grace is None:
        config.grace = 600
