"""Queue shares, as the built-in plugin has them, but half of the workers leave out the last queue.

resqued -n 8 --queue critical --queue default --queue slow -p examples/plugins/queue_shares.py
"""

from resqued import hookimpl


@hookimpl(trylast=True)
def choose_queues(config, number, count):
    names = [queue.name for queue in config.queues if number <= queue.share(count)]
    in_first_half = number <= (count + 1) // 2
    return names if in_first_half or len(names) == 1 else names[:-1]
