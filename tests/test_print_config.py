"""`--print-config`: every setting in force, and where it came from."""

from __future__ import annotations

import json

from harness.command import run
from resqued.config import SETTINGS


def test_each_setting_is_shown_with_its_source_and_what_it_overrules(tmp_path):
    (tmp_path / "resqued.conf.py").write_text("workers = 16\nqueues = ['high', 'low=10%']\n")
    code, out, err = run("--print-config", "-n", 3, cwd=tmp_path, RESQUED_WORKERS="32")
    assert (code, err) == (0, "")
    lines = {line.split(" = ")[0]: line for line in out.splitlines()}
    assert set(lines) >= set(SETTINGS)
    assert lines["workers"].endswith(
        " --workers (RESQUED_WORKERS says 32, resqued.conf.py:1 says 16)"
    )
    assert lines["workers"].startswith("workers = 3 ")
    assert lines["queues"].startswith("queues = ['high', 'low=10%'] ")
    assert lines["queues"].endswith(" resqued.conf.py:2")
    assert lines["burst"].split() == ["burst", "=", "False", "default"]
    assert "max_jobs" in lines, "settings of plugins too"


def test_passwords_and_secret_options_are_not_shown(tmp_path):
    (tmp_path / "tokens.py").write_text(
        "from resqued import hookimpl\n"
        "@hookimpl\n"
        "def add_options(options): options.add('--tokens-key', default='', secret=True)\n"
    )
    code, out, _ = run(
        *("--print-config", "-p", "./tokens.py", "--tokens-key", "abc123xyz"),
        *("--redis", "redis://:hunter2@host/0"),
        cwd=tmp_path,
    )
    assert code == 0
    assert "abc123xyz" not in out
    assert "hunter2" not in out
    assert "tokens_key = '(secret)'" in out


def test_what_a_hook_has_set_names_the_hook_and_lists_add_up(tmp_path):
    (tmp_path / "resqued.conf.py").write_text(
        "plugins = ['no:recycle']\ndef configure(config): config.workers = 5\n"
    )
    code, out, _ = run("--print-config", "--json", "-p", "no:watchdog", cwd=tmp_path)
    assert code == 0
    shown = {each["name"]: each for each in json.loads(out)}
    assert shown["workers"]["value"] == 5
    assert shown["workers"]["source"] == "plugin 'resqued.conf.py'"
    assert shown["plugins"]["value"] == ["no:recycle", "no:watchdog"]
    assert shown["plugins"]["source"] == "resqued.conf.py:1, --plugin"


def test_wrong_settings_are_refused_as_at_a_start(tmp_path):
    code, out, err = run("--print-config", "-n", "many", cwd=tmp_path)
    assert (code, out) == (64, "")
    assert "--workers: 'many' is not a number of workers" in err
