"""Settings of the example: PostgreSQL, and two queues that django-rq knows."""

import os

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only for this example")
INSTALLED_APPS = ["django_rq", "shop"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "shop"),  # PGHOST, PGUSER ... are read by libpq
        "CONN_MAX_AGE": None,  # workers keep their connection from job to job
    }
}

_REDIS = os.environ.get("SHOP_REDIS", "redis://localhost:6379/0")
RQ_QUEUES = {
    "default": {"URL": _REDIS, "DEFAULT_TIMEOUT": 300},
    "mails": {"URL": _REDIS},
}
