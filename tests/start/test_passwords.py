"""No password is ever shown, however it is written and wherever it comes from."""

from __future__ import annotations

import json
import re
import subprocess
from urllib.parse import quote, quote_plus

import psutil
import pytest

from harness.command import COMMAND, environment, run
from harness.waiting import scaled, wait_for
from resqued.logs.redaction import know, redact

ODD = {
    "plain": "hunter2secret",
    "quotes": "hun\"ter'2",
    "blanks": "hunter 2 secret",
    "at": "hun@ter@2",
    "slash": "hun/ter#2?x",
    "percent": "hun%25ter%2",
    "letters": "h\u00fcnter\u20ac2",
    "backslash": "hun\\ter\n2",
    "colons": "hun:ter::2",
    "short": "x y",
}


def forms(password: str) -> set[str]:
    """What must not be seen."""
    found = {password, quote(password, safe=""), quote_plus(password), quote(password)}
    found |= {repr(text)[1:-1] for text in found} | {json.dumps(text)[1:-1] for text in found}
    return found


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """What one test tells `know` is forgotten after it."""
    from resqued.logs import redaction

    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.mark.parametrize("how", ODD)
@pytest.mark.parametrize("written", [lambda text: quote(text, safe=""), str])
def test_a_known_password_is_taken_out_in_every_form(how, written):
    password = ODD[how]
    know(f"redis://user:{written(password)}@host:6379/0?db=1")
    for form in forms(password):
        texts = [f"redis://user:{form}@host:6379"]
        if how != "short":
            texts += [f"AUTH {form} failed", f"('{form}', 3)", f'{{"a": "{form}"}}', f"{form}"]
        for text in texts:
            assert form not in redact(text), text


@pytest.mark.parametrize("name", ["password", "ssl_password", "sentinel_password"])
@pytest.mark.parametrize("how", [how for how in ODD if how != "short"])
def test_a_password_among_the_parameters(name, how):
    know(f"rediss://host/0?{name}={quote(ODD[how], safe='')}&db=1")
    for form in forms(ODD[how]):
        assert form not in redact(f"cannot read the key with {form}: no")


def test_a_password_that_is_a_common_word_stays_a_word():
    know("redis://:redis@host")
    assert redact("redis answers again") == "redis answers again"
    assert redact("redis://:redis@host") == "redis://:***@host"


def test_a_password_inside_of_another_word_is_left():
    know("redis://:port@host")
    assert redact("the transport of port 3") == "the transport of *** 3"


def told(*words: str, cwd, **env: str) -> str:
    """All that a command says."""
    code, out, err = run(*words, cwd=cwd, **env)
    assert code in (0, 64, 69, 73, 78), out + err
    return out + err


def places(password: str, tmp_path):
    """The ways to give a password, each as arguments and environment."""
    encoded = f"redis://:{quote(password, safe='')}@127.0.0.1:1/0"
    parameter = f"rediss://127.0.0.1:1/0?ssl_password={quote(password, safe='')}"
    (tmp_path / "file.py").write_text(f"redis = {encoded!r}\n")
    (tmp_path / "broken.py").write_text(f"redis = {encoded!r} redis\n")
    (tmp_path / "raw.py").write_text(f"redis = {f'redis://:{password}@127.0.0.1:1'!r} +\n")
    return {
        "flag": (["--redis", encoded], {}),
        "flag, not encoded": (["--redis", f"redis://:{password}@127.0.0.1:1/0"], {}),
        "variable": ([], {"RQ_REDIS_URL": encoded}),
        "parameter": ([], {"RESQUED_REDIS": parameter}),
        "file": (["-c", "file.py"], {}),
        "broken file": (["-c", "broken.py"], {}),
        "broken file, not encoded": (["-c", "raw.py"], {}),
    }


@pytest.mark.parametrize("how", ["quotes", "blanks"])
def test_no_command_shows_it(tmp_path, how):
    password = ODD[how]
    (tmp_path / "app.py").write_text("import os\nraise RuntimeError(str(os.environ))\n")
    for name, (words, env) in places(password, tmp_path).items():
        said = told("--check", "-r", "app", "-v", *words, cwd=tmp_path, **env)
        said += told("--list-plugins", *words, cwd=tmp_path, **env)
        for form in forms(password):
            assert form not in said, f"{name}: {said}"


def test_neither_log_nor_title_nor_status_of_a_service_shows_it(tmp_path):
    password = ODD["quotes"]
    (tmp_path / "app.py").write_text(
        "import warnings\nfrom resqued.config import Config\n"
        "import gc\n"
        "for each in gc.get_objects():\n"
        "    if isinstance(each, Config):\n"
        "        warnings.warn(f'{each.redis} and {each!r}')\n"
    )
    url = f"redis://:{quote(password, safe='')}@127.0.0.1:1/0"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "-v", "-r", "app", "--pid", "pid", "--redis", url],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(
            lambda: "does not answer" in (tmp_path / "log").read_text(),
            40,
            "a worker without Redis",
        )
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        said = (tmp_path / "log").read_text()
        assert "UserWarning" in said
        said += told("--status", "--pid", "pid", cwd=tmp_path)
        said += told("--status", "--json", "--pid", "pid", cwd=tmp_path)
        said += " ".join(word for each in family for word in each.cmdline())
        for form in forms(password):
            assert form not in said
        assert not re.search(r"hun.{1,6}ter", said)
    finally:
        process.terminate()
        assert process.wait(scaled(30)) == 0
