"""Django: `resqued -p django` in the folder of `manage.py` needs no further settings.

The settings module is named by `--django-settings`, by DJANGO_SETTINGS_MODULE, or by `manage.py` in
the working directory or on `--path`. From it come what django-rq's `RQ_QUEUES` say of the server
and the queues, as far as resqued's own settings are left as they are by default: all queues that
are on the server of the first one that is served, in their order. The arbiter never imports it: a
process of its own reads it, at the start and on each reload.

`django.setup()` is called before the application is loaded. Connections to databases are closed
before each fork; around each job the old and broken ones are, as around a request, and one that is
kept (CONN_MAX_AGE) is tested before a job uses it first, so that jobs survive a restart of the
database.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from resqued import Config, ConfigError, Draft, Generation, Options, Worker, hookimpl

AUTOLOAD = False  # only when it is named with -p

VARIABLE: Final = "DJANGO_SETTINGS_MODULE"

PATIENCE: Final = 8.0
"""Seconds for the import of the settings; less than a hook may take."""

SERVER: Final = (
    *("URL", "HOST", "PORT", "DB", "USERNAME", "PASSWORD", "SSL", "SSL_CERT_REQS"),
    *("UNIX_SOCKET_PATH", "USE_REDIS_CACHE", "REDIS_CLIENT_KWARGS"),
    *("SENTINELS", "MASTER_NAME", "SOCKET_TIMEOUT", "CONNECTION_KWARGS", "SENTINEL_KWARGS"),
)
"""What names the server in one of the RQ_QUEUES."""

VERIFY: Final = {None: "none", 0: "none", 1: "optional", 2: "required"}
"""redis-py's words for what SSL_CERT_REQS may be besides them: None and those of `ssl`."""

IN_MANAGE_PY: Final = re.compile(rf"""{VARIABLE}["'],\s*["']([\w.]+)["']""")


@hookimpl(tryfirst=True)  # so that a clash of names is an error of the other plugin
def add_options(options: Options) -> None:
    options.add(
        "--django-settings",
        default=None,
        metavar="MODULE",
        help="Django's settings. Default: DJANGO_SETTINGS_MODULE, else what manage.py says.",
    )


@hookimpl
def configure(config: Draft) -> None:
    module = config.django_settings or os.environ.get(VARIABLE) or from_manage_py(config.path)
    if not module:
        raise ConfigError(
            "django_settings",
            "it is not known which module has Django's settings",
            remedy=f"give --django-settings MODULE or {VARIABLE}, or start beside manage.py",
        )
    config.django_settings = module
    found = read_settings(module, config.path)
    adopt(config, found["queues"])
    for name, value in found["classes"].items():
        if value and getattr(config, name) == getattr(Config, name):
            setattr(config, name, value)


def from_manage_py(path: tuple[str, ...]) -> str | None:
    """The module that `manage.py` names, on the path or in the working directory."""
    for folder in (*path, "."):
        file = Path(folder, "manage.py")
        if file.is_file() and (match := IN_MANAGE_PY.search(file.read_text(errors="replace"))):
            return match[1]
    return None


def read_settings(module: str, path: tuple[str, ...]) -> dict[str, Any]:
    """What `show_settings` says, in a process of its own. Raises ConfigError."""
    words = [sys.executable, "-P", "-m", __name__, *path]
    env = {**os.environ, VARIABLE: module}
    try:
        done = subprocess.run(
            words, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        why = f"their import takes more than {PATIENCE:g} s"
    else:
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    remedy = f"try: {VARIABLE}={module} python -c"
    remedy += " 'from django.conf import settings; settings.RQ_QUEUES'"
    if why.endswith(f"No module named '{module.partition('.')[0]}'"):
        remedy = "start in the folder of manage.py, or give that folder with --path"
    raise ConfigError(
        "django_settings",
        f"Django's settings, module {module}, cannot be read: {why}",
        remedy=remedy,
    )


def show_settings(folders: list[str]) -> None:
    """Print as JSON what is used of Django's settings. Runs in a process of its own."""
    output = os.dup(1)
    os.dup2(2, 1)  # what the settings print is not the answer
    sys.path[:0] = folders
    sys.path.append(str(Path.cwd()))  # last, as for the application
    from django.conf import settings

    queues = {name: dict(queue) for name, queue in getattr(settings, "RQ_QUEUES", {}).items()}
    for queue in queues.values():
        if "URL" not in queue and (cache := queue.get("USE_REDIS_CACHE")):
            queue["URL"] = cache_url(settings.CACHES[cache])
    classes = {
        "job_class": getattr(settings, "RQ", {}).get("JOB_CLASS"),
        "queue_class": getattr(settings, "RQ", {}).get("QUEUE_CLASS"),
        "exception_handlers": getattr(settings, "RQ_EXCEPTION_HANDLERS", None),
    }
    text = json.dumps({"queues": queues, "classes": classes}, default=dotted)
    with os.fdopen(output, "w") as file:
        file.write(text)


def cache_url(cache: Mapping[str, Any]) -> str:
    """The server of one of Django's CACHES: the first of its LOCATION, which is the one to write
    to, with the login that django-redis has in OPTIONS."""
    place = cache["LOCATION"]
    url: str = re.split("[,;]", place)[0] if isinstance(place, str) else place[0]
    options = cache.get("OPTIONS", {})
    scheme, mark, rest = url.partition("://")
    if "@" in rest or not options.get("PASSWORD"):
        return url
    return f"{scheme}{mark}{login(options.get('USERNAME', ''), options['PASSWORD'])}{rest}"


def dotted(value: object) -> str:
    """The name of a class or function, the text of another object."""
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def adopt(config: Draft, queues: Mapping[str, Mapping[str, Any]]) -> None:
    """The server and the queues of RQ_QUEUES, where nothing else is set. Raises ConfigError."""
    asked = [queue.name for queue in config.queues if queue.name in queues]
    first = next(iter([*asked, *queues]), None)
    if first is None:
        return
    places = {name: place(name, queue) for name, queue in queues.items()}
    if config.queues == Config.queues:
        config.queues = [name for name in queues if places[name] == places[first]]
    elif strange := [name for name in asked if places[name] != places[first]]:
        raise ConfigError(
            "queues",
            f"in Django's RQ_QUEUES {strange[0]} is on another server than {first}",
            remedy="start a resqued for each server",
        )
    if queues[first].get("SERIALIZER") and config.serializer is None:
        config.serializer = queues[first]["SERIALIZER"]
    if config.redis == Config.redis and not config.has_plugin("embedded"):
        config.redis = address(first, queues[first])


def place(name: str, queue: Mapping[str, Any]) -> object:
    """The same for two queues in one database of one server, however each of them names it."""
    try:
        found = address(name, queue)
    except ConfigError:
        return None
    if isinstance(found, dict):
        return str(sorted(found["INSTANCES"])), found.get("MASTER_NAME"), found.get("DB", 0)
    url = urlsplit(found)
    database = str(database_of(found) or 0)
    if url.scheme == "unix":
        return url.path, database
    try:
        return url.hostname or "localhost", url.port or 6379, database
    except ValueError:  # what follows the colon is no port
        return found


def database_of(url: str) -> str | None:
    """What redis-py takes for the number of the database in a URL."""
    parts = urlsplit(url)
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    return parse_qs(parts.query).get("db", [path])[0] or None


def address(name: str, queue: Mapping[str, Any]) -> str | dict[str, Any]:
    """The setting `redis` for the server of one of RQ_QUEUES. Raises ConfigError."""
    server: dict[str, Any] = {key: queue[key] for key in SERVER if queue.get(key) not in (None, "")}
    check = {}
    if "SSL_CERT_REQS" in queue:
        check["ssl_cert_reqs"] = VERIFY.get(queue["SSL_CERT_REQS"], queue["SSL_CERT_REQS"])
    if url := server.get("URL"):
        options = check if url.startswith("rediss:") and "ssl_cert_reqs=" not in url else {}
        # for redis-py the database in the URL counts more
        database = None if database_of(url) else server.get("DB")
        return with_query(url, {**options, "db": database})
    user = ""
    if "USERNAME" in server or "PASSWORD" in server:
        user = login(server.get("USERNAME", ""), server.get("PASSWORD", ""))
    if path := server.get("UNIX_SOCKET_PATH"):
        return with_query(f"unix://{user}{quote(path)}", {"db": server.get("DB")})
    if sentinels := server.get("SENTINELS"):
        rest = {key: value for key, value in server.items() if key in SERVER[-4:]}
        names = ("DB", "USERNAME", "PASSWORD")
        login_and_db: dict[str, Any] = {key: server[key] for key in names if key in server}
        return {"INSTANCES": sentinels, **login_and_db, **rest}
    if not (host := server.get("HOST")):
        raise ConfigError(
            "redis",
            f"queue {name} of Django's RQ_QUEUES names no server",
            remedy="give it URL, HOST, UNIX_SOCKET_PATH, SENTINELS or USE_REDIS_CACHE",
        )
    scheme = "rediss" if server.get("SSL") else "redis"
    host = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{user}{host}:{server.get('PORT', 6379)}/{server.get('DB', 0)}"
    options = check if scheme == "rediss" else {}
    return with_query(url, {**options, **server.get("REDIS_CLIENT_KWARGS", {})})


def login(user: object, password: object) -> str:
    return f"{quote(str(user), safe='')}:{quote(str(password), safe='')}@"


def with_query(url: str, options: Mapping[str, Any]) -> str:
    given = {name: value for name, value in options.items() if value is not None}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(given)}" if given else url


@hookimpl(tryfirst=True)
def before_load(generation: Generation) -> None:
    os.environ[VARIABLE] = generation.config.django_settings
    import django

    django.setup()


@hookimpl(trylast=True)
def app_loaded(generation: Generation) -> None:
    close_connections()


@hookimpl(trylast=True)
def before_fork(worker: Worker) -> None:
    close_connections()


def close_connections() -> None:
    """None is shared by two processes, and the threads of a pool do not survive a fork."""
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


@hookimpl(tryfirst=True)
def before_job(worker: Worker) -> None:
    from django.db import connections, reset_queries

    reset_queries()
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
        connection.health_check_enabled = True  # one that is left is tested when it is used


@hookimpl(trylast=True)
def after_job(worker: Worker) -> None:
    from django.db import close_old_connections

    close_old_connections()


if __name__ == "__main__":
    show_settings(sys.argv[1:])
