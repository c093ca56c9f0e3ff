"""The page of the built-in plugin `http`, and what it asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness import needs
from harness.waiting import scaled, wait_for
from harness.web import ANY, ask, port_of, wait_for_status
from resqued import WorkerState
from resqued.testing import FakeArbiter, make_queue_facts, make_redis_facts, make_worker
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.history import COLUMNS, History
from resqued_plugins.http.page import page
from resqued_plugins.http.status import ranges, status

EVIL = "<script>document.title='taken'</script>"


def test_the_policy_permits_its_own_style_and_script_alone():
    found = page()
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    text = found.body.decode()
    assert not re.findall(r"\son\w+=|\sstyle=|\ssrc=|https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert text.count("<script>") == text.count("<style>") == 1


def test_the_numbers_of_idle_workers_are_folded():
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert ranges([]) == ""


def test_the_status_has_what_runs_and_no_arguments():
    workers = [
        make_worker(number=1),
        make_worker(number=2, job_id="j", function="shop.sell", queues=("mails",)),
        make_worker(number=3, state=WorkerState.BOOTING),
    ]
    queues = {"mails": make_queue_facts(name="mails", waiting=3, oldest=2.0)}
    history = History()
    history.mark("reload_failed", "x" * 1000)
    arbiter = FakeArbiter(workers=workers, queues=queues, redis=make_redis_facts())
    found = status(arbiter, Counts(arbiter), history)
    assert found["workers"] == {"idle": 1, "busy": 1, "booting": 1}
    assert found["idle"] == "1"
    assert [each["number"] for each in found["listed"]] == [2, 3]
    job = found["listed"][0]
    assert (job["job"], job["function"], job["queue"]) == ("j", "shop.sell", "mails")
    assert not {"args", "kwargs", "description", "meta"} & set(job)
    assert found["queues"][0]["waiting"] == 3
    assert len(found["events"][0]["text"]) == 500


def test_many_workers_and_queues_are_cut():
    workers = [make_worker(number=n, job_id="j") for n in range(1, 251)]
    queues = {f"q{n}": make_queue_facts(name=f"q{n}") for n in range(250)}
    arbiter = FakeArbiter(workers=workers, queues=queues)
    found = status(arbiter, Counts(arbiter), History())
    assert (len(found["listed"]), found["unlisted"]) == (200, 50)
    assert (len(found["queues"]), found["queues_unlisted"]) == (200, 50)


def test_the_history_is_kept_over_a_reexec():
    history = History()
    queues = {"q": make_queue_facts(name="q", waiting=3, oldest=2.0)}
    arbiter = FakeArbiter(workers=[make_worker()], queues=queues)
    history.step(arbiter, Counts(arbiter))
    history.step(arbiter, Counts(arbiter))  # too early for another
    history.mark("reload_done", "generation 2 in service")
    again = History()
    again.restore(history.as_plain())
    plain = again.as_plain()
    [sample] = plain["samples"]
    named = dict(zip(COLUMNS, sample, strict=True))
    assert (named["waiting"], named["oldest"], named["busy"], named["ready"]) == (3, 2.0, 0, 1)
    assert [mark["event"] for mark in plain["marks"]] == ["reload_done"]
    other = History()
    other.restore({"columns": ["time"], "samples": [[1.0]]})  # of another release
    assert other.as_plain()["samples"] == []


def test_who_may_see_the_page(resqued):
    """Elsewhere than on loopback only with --http-status; there under no other name."""
    arbiter = resqued("-n", 1, "--http", "0.0.0.0:0")
    port = port_of(arbiter)
    assert wait_for_status(port, "/livez", 200).status == 200
    for path in ("/", "/status.json", "/history.json"):
        assert ask(port, path).status == 404
    assert ask(port, "/metrics", Host="anything.example").status == 200
    shown = resqued("-n", 1, "--http", "0.0.0.0:0", "--http-status")
    for path in ("/", "/status.json", "/history.json"):
        assert wait_for_status(port_of(shown), path, 200).status == 200
    local = resqued("-n", 1, "--http", ANY)
    port = port_of(local)
    for path in ("/", "/status.json", "/metrics", "/livez"):
        wait_for_status(port, path, 200)
        assert ask(port, path, Host="rebound.example").status == 421
        assert ask(port, path, Host=f"LOCALHOST:{port}").status == 200
        assert ask(port, path, "DELETE").status == 405
    assert "default-src 'none'" in ask(port, "/nowhere").headers["Content-Security-Policy"]


def render(url: str, profile: Path) -> tuple[str, str]:
    """The document as headless Chromium has it after some seconds, and what the browser said."""
    done = subprocess.run(
        [
            needs.program("chromium", "chromium"),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", f"--user-data-dir={profile}"),
            *("--virtual-time-budget=5000", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    return done.stdout, done.stderr


def test_names_and_exceptions_of_others_are_only_text(resqued, queue, gate, tmp_path):
    """A queue, a function and an exception that would be scripts, in a real browser."""
    app = f"""
        from pathlib import Path
        from harness.jobs import wait_at

        globals()[{EVIL!r}] = wait_at
        if Path("broken").exists():
            raise ValueError({EVIL!r})
    """
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--http", ANY, "--queue", f"{EVIL}=all"),
        app=app,
        expect_errors="failed|Traceback|ValueError",
    )
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=30)
    held = gate()
    queue(EVIL).enqueue(f"app.{EVIL}", str(held))
    held.wait_until_reached()
    (arbiter.directory / "broken").touch()
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed", timeout=30)

    def all_there() -> bool:
        text = ask(port, "/status.json").text
        return text.count("<script>") >= 4  # queue twice, function, exception

    wait_for(all_there, 20)
    document, said = render(f"http://127.0.0.1:{port}/", tmp_path / "profile")
    assert 'data-shown="yes"' in document, said
    assert "<title>resqued</title>" in document
    assert document.count("<script>") == 1
    shown = EVIL.replace("<", "&lt;").replace(">", "&gt;")
    assert f"app.{shown}" in document
    assert f"ValueError: {shown}" in document
    assert f"<td>{shown}</td>" in document
    assert "Refused" not in said and "Uncaught" not in said, said
    assert document.count("<figure>") == 4


@pytest.mark.parametrize("path", ["/", "/status.json"])
def test_what_is_sent_is_not_kept_by_caches(resqued, path):
    port = port_of(resqued("-n", 1, "--http", ANY))
    answer = wait_for_status(port, path, 200)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
