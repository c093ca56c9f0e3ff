"""Pause queues by files of their names, on this machine: `touch /run/resqued/paused/reports`.

resqued -p examples/plugins/pause.py --pause-folder /run/resqued/paused
"""

from pathlib import Path

from resqued import hookimpl

seen: list[str] = []


@hookimpl
def add_options(options):
    options.add("--pause-folder", default="", help="A file in it pauses the queue of its name.")


@hookimpl
def arbiter_started(arbiter):
    arbiter.every(0.5, lambda: watch(arbiter))


def watch(arbiter):  # in a thread of the arbiter
    global seen
    before, seen = seen, paused(arbiter.config)
    if seen != before:
        arbiter.look_again()  # idle workers ask order_queues again


@hookimpl
def order_queues(worker, queues):
    off = paused(worker.config)
    return [name for name in queues if name not in off] if off else None


def paused(config):
    folder = config.pause_folder
    return sorted(each.name for each in Path(folder).glob("*")) if folder else []
