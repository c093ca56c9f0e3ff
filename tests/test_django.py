"""The built-in plugin `django` without Django: what it takes from RQ_QUEUES, and what it refuses.

tests/recipes/test_django.py has it with Django and a database.
"""

from __future__ import annotations

import pytest

from resqued import ConfigError
from resqued.testing import make_draft
from resqued_plugins import django

LOCAL = {"HOST": "localhost", "PORT": 6379, "DB": 0}


def adopted(found, **settings):
    draft = make_draft(django, **settings)
    django.adopt(draft, found)
    return draft


@pytest.mark.parametrize(
    "queue, url",
    [
        (LOCAL, "redis://localhost:6379/0"),
        ({"HOST": "::1", "PORT": 7}, "redis://[::1]:7/0"),
        ({**LOCAL, "PASSWORD": "p@/w"}, "redis://:p%40%2Fw@localhost:6379/0"),
        ({**LOCAL, "USERNAME": "u", "PASSWORD": "p"}, "redis://u:p@localhost:6379/0"),
        ({**LOCAL, "SSL": True}, "rediss://localhost:6379/0"),
        (
            {**LOCAL, "SSL": True, "SSL_CERT_REQS": "none"},
            "rediss://localhost:6379/0?ssl_cert_reqs=none",
        ),
        (
            {**LOCAL, "SSL": True, "REDIS_CLIENT_KWARGS": {"ssl_ca_certs": "/ca.pem"}},
            "rediss://localhost:6379/0?ssl_ca_certs=%2Fca.pem",
        ),
        ({"URL": "redis://a:1/2", "DB": None}, "redis://a:1/2"),
        ({"URL": "redis://a:1", "DB": 3}, "redis://a:1?db=3"),
        ({"URL": "redis://a:1/", "DB": 3}, "redis://a:1/?db=3"),
        ({"URL": "redis://a:1/2", "DB": 0}, "redis://a:1/2"),  # as redis-py, for who enqueues
        (
            {"URL": "redis://a:1?health_check_interval=9", "DB": 3},
            "redis://a:1?health_check_interval=9&db=3",
        ),
        ({"URL": "unix:///run/r.sock", "DB": 3}, "unix:///run/r.sock?db=3"),
        ({"URL": "rediss://a:1", "SSL_CERT_REQS": None}, "rediss://a:1?ssl_cert_reqs=none"),
        ({"URL": "redis://a:1", "SSL_CERT_REQS": None}, "redis://a:1"),
        (
            {**LOCAL, "SSL": True, "SSL_CERT_REQS": 0},
            "rediss://localhost:6379/0?ssl_cert_reqs=none",
        ),
        ({"UNIX_SOCKET_PATH": "/run/r.sock", "DB": 2}, "unix:///run/r.sock?db=2"),
        (
            {"SENTINELS": [["s1", 26379]], "MASTER_NAME": "main", "DB": 1, "PASSWORD": "p"},
            "redis+sentinel://:p@s1:26379/main/1",
        ),
    ],
)
def test_the_server(queue, url):
    assert adopted({"default": queue}).redis == url


def test_all_queues_of_one_server_are_served_in_their_order():
    other = {**LOCAL, "DB": 1}
    queues = {"high": LOCAL, "other": other, "low": {**LOCAL, "DEFAULT_TIMEOUT": 9}}
    assert [queue.name for queue in adopted(queues).queues] == ["high", "low"]


def test_a_server_is_the_same_however_a_queue_names_it():
    queues = {
        "default": {**LOCAL, "USERNAME": "u", "PASSWORD": "p"},
        "url": {"URL": "redis://localhost/0", "DB": 5},
        "other": {"URL": "redis://localhost:6380/0"},
        "short": {"HOST": "localhost", "PORT": 6379, "SSL": False},
        "second": {"URL": "redis://localhost", "DB": 1},
        "nowhere": {"PORT": 1},
        "odd": {"URL": "redis://localhost:port"},
    }
    assert [queue.name for queue in adopted(queues).queues] == ["default", "url", "short"]
    sentinels = {"SENTINELS": [["a", 1], ["b", 2]], "MASTER_NAME": "main"}
    queues = {"default": sentinels, "again": {**sentinels, "DB": 0, "SOCKET_TIMEOUT": 0.3}}
    assert [queue.name for queue in adopted(queues).queues] == ["default", "again"]


@pytest.mark.parametrize(
    "cache, url",
    [
        ({"LOCATION": "redis://a:1/1"}, "redis://a:1/1"),
        ({"LOCATION": "redis://a:1/1,redis://b:1/1"}, "redis://a:1/1"),
        ({"LOCATION": ["redis://a:1/1", "redis://b:1/1"]}, "redis://a:1/1"),
        ({"LOCATION": "redis://a:1", "OPTIONS": {"PASSWORD": "p/w"}}, "redis://:p%2Fw@a:1"),
        ({"LOCATION": "redis://:x@a:1", "OPTIONS": {"PASSWORD": "p"}}, "redis://:x@a:1"),
    ],
)
def test_the_server_of_a_cache(cache, url):
    assert django.cache_url(cache) == url


def test_a_wrong_url_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="not the URL of a Redis"):
        adopted({"default": {"URL": "localhost:6379"}})


@pytest.mark.processes
def test_settings_that_are_not_found_are_refused_with_the_way_to_find_them(tmp_path):
    with pytest.raises(ConfigError) as found:
        django.read_settings("no_such_site.settings", (str(tmp_path),))
    assert "--path" in found.value.remedy or "No module named 'django'" in str(found.value)


def test_what_is_set_otherwise_stays():
    draft = adopted({"default": LOCAL}, redis="redis://other:1", queues={"low": "all"})
    assert draft.redis == "redis://other:1"
    assert [queue.name for queue in draft.queues] == ["low"]


def test_the_queue_that_is_asked_for_says_which_server():
    draft = adopted({"default": LOCAL, "far": {"URL": "redis://far"}}, queues={"far": "all"})
    assert draft.redis == "redis://far"


def test_queues_of_two_servers_are_refused():
    queues = {"default": LOCAL, "far": {"URL": "redis://far"}}
    with pytest.raises(ConfigError, match="far is on another server than default"):
        adopted(queues, queues={"default": "all", "far": "all"})


def test_a_queue_without_a_server_is_refused():
    with pytest.raises(ConfigError, match="queue default of Django's RQ_QUEUES names no server"):
        adopted({"default": {"PORT": 1}})


def test_without_queues_nothing_changes():
    assert adopted({}).redis == "redis://localhost:6379"


def test_manage_py_names_the_settings(tmp_path):
    (tmp_path / "manage.py").write_text(
        'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")\n'
    )
    assert django.from_manage_py((str(tmp_path),)) == "mysite.settings"
