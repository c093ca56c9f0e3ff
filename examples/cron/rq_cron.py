"""A file for `rq cron`, as it was before: resqued --cron rq_cron.py"""

from rq import cron
from shop import tasks

cron.register(tasks.report, queue_name="default", args=("today",), interval=30)
cron.register(tasks.clean_baskets, queue_name="low", args=(24,), cron="0 * * * *")
