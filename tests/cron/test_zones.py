"""The name of the zone of local time, which is the same moment on each host only by its name."""

from __future__ import annotations

import os
import shutil
import time
import zoneinfo
from pathlib import Path

import pytest

from resqued.cron import zones

DATA = next((Path(each) for each in zoneinfo.TZPATH if Path(each, "Europe/Berlin").is_file()), None)
needs_data = pytest.mark.skipif(DATA is None, reason="the system has no tzdata")


@pytest.fixture
def local_time(monkeypatch):
    """`local_time("Europe/Berlin")` sets the process's local time, as /etc/localtime would."""

    def set_to(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


def etc(folder, *, link=None, copy=None, timezone=None):
    """Arguments for `local`: files as in /etc."""
    if link:
        (folder / "localtime").symlink_to(link)
    if copy:
        shutil.copy(Path(DATA, copy), folder / "localtime")
    if timezone:
        (folder / "timezone").write_text(f"{timezone}\n")
    return {"link": folder / "localtime", "file": folder / "timezone"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        (":/usr/share/zoneinfo/Asia/Kolkata", "Asia/Kolkata"),
        ("UTC", "UTC"),
        ("", "UTC"),
        ("UTC0", "UTC"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", None),
    ],
)
def test_of_the_variable(given, name, local_time):
    local_time(given)
    assert zones.local({"TZ": given}) == name


def test_of_the_variable_where_the_process_has_it(local_time):
    local_time("Europe/Berlin")
    assert os.environ["TZ"] == "Europe/Berlin"
    assert zones.local() == "Europe/Berlin"


@needs_data
@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"link": "/usr/share/zoneinfo/Europe/Berlin"}, "Europe/Berlin"),
        ({"link": "../usr/share/zoneinfo/Europe/Berlin"}, "Europe/Berlin"),
        ({"link": "/usr/share/zoneinfo/Europe/Berlin", "timezone": "Etc/UTC"}, "Europe/Berlin"),
        ({"copy": "Europe/Berlin", "timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({"copy": "Europe/Berlin", "timezone": "Etc/UTC"}, None),  # it was left behind
        ({"copy": "Europe/Berlin"}, None),
        ({"link": "/etc/zone.mine"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_of_the_files(files, name, local_time, tmp_path):
    local_time("Europe/Berlin")
    assert zones.local({}, **etc(tmp_path, **files)) == name


@pytest.mark.parametrize("files", [{}, {"timezone": "Europe/Berlin"}, {"timezone": "nonsense"}])
def test_without_a_name_it_is_utc_if_local_time_is(files, local_time, tmp_path):
    local_time("UTC0")
    assert zones.local({}, **etc(tmp_path, **files)) == "UTC"


def test_a_job_without_a_zone_where_the_host_has_no_name_for_its_own(folder, local_time):
    local_time("CET-1CEST,M3.5.0,M10.5.0/3")
    text = """
        register(clean, 'default', cron='0 3 * * *')
        register(clean, 'default', cron='0 3 * * *', timezone='UTC', name='b')
        register(clean, 'default', interval=60, name='c')
        """
    [problem] = folder.refused(text, timezone=None)
    assert problem.startswith("jobs_of_test.py:7: cron job 'tasks_of_test.clean': it names no tim")
    assert problem.endswith("give timezone='Europe/Berlin', or --cron-timezone for all")


def test_which_zone_a_job_has(folder, local_time):
    local_time("Asia/Kolkata")
    text = """
        register(clean, 'default', cron='0 3 * * *')
        cron.register(clean, 'default', cron='0 3 * * *')
        register(clean, 'default', cron='0 3 * * *', timezone='America/New_York', name='b')
        register(clean, 'default', interval=60, name='c')
        """
    names = [each.timezone for each in folder.load(text, timezone=None)]
    assert names == ["Asia/Kolkata", "Asia/Kolkata", "America/New_York", "UTC"]


def test_a_zone_for_all(folder):
    text = "register(clean, 'default', cron='0 3 * * *')"
    assert folder.load(text, timezone="Pacific/Apia")[0].timezone == "Pacific/Apia"


def test_without_data_of_the_system(monkeypatch):
    zoneinfo.reset_tzpath(to=())
    try:
        zoneinfo.ZoneInfo.clear_cache()
        assert zones.check("Europe/Berlin") == "Europe/Berlin", "tzdata is installed with resqued"
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()
