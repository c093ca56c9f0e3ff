"""The periodic jobs: resqued --cron shop.cron"""

from resqued.cron import register
from shop import tasks

register(tasks.fetch_rates, "default", interval=10)

register(
    tasks.clean_baskets,
    "low",
    kwargs={"hours": 48},
    cron="*/5 * * * *",
    name="baskets: old ones",
    overlap="skip",  # not while the last one still runs
    jitter=60,
)

register(
    tasks.report,
    "low",
    cron="30 2 * * *",
    timezone="Europe/Berlin",
    misfire="once",  # at breakfast, if nobody was there at half past two
    grace=6 * 3600,
    job_timeout="30m",
)
