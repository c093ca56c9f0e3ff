"""`/metrics` of the built-in plugin `http`."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import needs
from harness.waiting import wait_for
from harness.web import ANY, ask, port_of, wait_for_status
from resqued import LoopFacts, WorkerState
from resqued.testing import (
    FakeArbiter,
    make_cron_facts,
    make_exit,
    make_queue_counts,
    make_queue_facts,
    make_redis_facts,
    make_schedule_facts,
    make_worker,
)
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.metrics import Metrics
from resqued_plugins.http.tally import Tally

STRANGE = 'a"b\\c\nd é <script>'


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and labels' values."""
    return {
        (each.name, *each.labels.values()): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def of(arbiter: FakeArbiter, tally: Tally | None = None) -> dict[tuple[str, ...], float]:
    return samples(Metrics(arbiter, Counts(arbiter), tally or Tally()).text().decode())


@pytest.fixture
def arbiter():
    counts = make_queue_counts(
        started=5, finished=3, failed=1, waits=(0, 2, 3, *[0] * 13), wait_sum=0.5
    )
    return FakeArbiter(
        workers=[make_worker(number=1), make_worker(number=2, job_id="j", queues=(STRANGE,))],
        queues={
            STRANGE: make_queue_facts(
                name=STRANGE, waiting=7, oldest=1.5, unserved=True, started=2, limit=5
            )
        },
        counts={STRANGE: counts, "": make_queue_counts(started=1)},
        redis=make_redis_facts(),
        schedule=make_schedule_facts(moved=9, cron=make_cron_facts(missed=2, failing=("a", "b"))),
        loop=LoopFacts(time.monotonic(), 0.25),
    )


def test_workers_queues_jobs_and_redis(arbiter):
    found = of(arbiter)
    assert found["resqued_workers", "idle"] == found["resqued_workers", "busy"] == 1
    assert found["resqued_workers", "killed"] == 0
    assert found["resqued_workers_wished",] == 2
    assert found["resqued_queue_waiting_jobs", STRANGE] == 7
    assert found["resqued_queue_oldest_age_seconds", STRANGE] == 1.5
    assert found["resqued_queue_unserved", STRANGE] == 1
    assert found["resqued_queue_paused", STRANGE] == 0
    assert found["resqued_queue_started_jobs", STRANGE] == 2
    assert found["resqued_queue_limit_jobs", STRANGE] == 5
    assert found["resqued_jobs_started_total", STRANGE] == 5
    assert found["resqued_jobs_started_total", "(others)"] == 1
    assert found["resqued_jobs_total", STRANGE, "finished"] == 3
    assert found["resqued_redis_up",] == 1
    assert found["resqued_scheduled_moved_jobs_total",] == 9
    assert found["resqued_cron_ticks_total", "missed"] == 2
    assert found["resqued_cron_failing_jobs",] == 2
    assert found["resqued_loop_delay_seconds",] == 0.25
    assert found["resqued_state", "running"] == 1


def test_queues_that_are_summed_up_have_one_label_whatever_their_number(arbiter):
    arbiter.queues = {"other (3)": make_queue_facts(name="other (3)", waiting=4, started=None)}
    found = of(arbiter)
    assert found["resqued_queue_waiting_jobs", "(others)"] == 4
    assert ("resqued_queue_started_jobs", "(others)") not in found, "it is not known"


def test_the_table_in_the_documentation_names_every_metric(arbiter):
    text = (Path(__file__).parents[2] / "resqued" / "OPERATIONS.md").read_text()
    rows = re.findall(r"^\| (`resqued_.+?) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    found = Metrics(arbiter, Counts(arbiter), Tally()).text().decode()
    assert {each for each in re.findall(r"# TYPE (\w+)", found) if "process" not in each} == named


def test_histograms_are_cumulative_and_follow_the_counts(arbiter):
    metrics = Metrics(arbiter, Counts(arbiter), Tally())
    found = samples(metrics.text().decode())
    wait = "resqued_job_wait_seconds"
    assert found[f"{wait}_bucket", STRANGE, "0.001"] == 0
    assert found[f"{wait}_bucket", STRANGE, "0.003"] == 2
    assert found[f"{wait}_bucket", STRANGE, "0.01"] == 5
    assert found[f"{wait}_bucket", STRANGE, "+Inf"] == found[f"{wait}_count", STRANGE] == 5
    assert found[f"{wait}_sum", STRANGE] == 0.5
    arbiter.counts = {STRANGE: make_queue_counts(waits=(1, 2, 3, *[0] * 13), wait_sum=0.6)}
    assert metrics.text() == metrics.text()  # a second's
    later = samples(Metrics(arbiter, Counts(arbiter), Tally()).text().decode())
    assert later[f"{wait}_bucket", STRANGE, "+Inf"] == 6
    assert (f"{wait}_count", "(others)") not in later


def test_what_is_not_known_has_no_sample():
    found = of(FakeArbiter(queues={"q": make_queue_facts(name="q", oldest=None)}))
    assert {name: value for (name, *_), value in found.items() if "redis" in name} == {
        "resqued_redis_up": 0  # an alert has to see it
    }
    assert ("resqued_queue_limit_jobs", "q") not in found
    assert ("resqued_queue_oldest_age_seconds", "q") not in found
    assert ("resqued_queue_waiting_jobs", "q") in found


def test_a_loop_that_stands_still_is_late_now():
    found = of(FakeArbiter(loop=LoopFacts(time.monotonic() - 11, 0.0)))
    assert found["resqued_loop_delay_seconds",] >= 10


def test_exits_and_reloads_are_counted_and_kept_over_a_reexec(arbiter):
    tally = Tally()
    tally.exited(make_exit(out_of_memory=True, signal=9))
    tally.exited(make_exit(cause="reload"))
    tally.exited(make_exit(signal=11))
    tally.reloaded(2, None)
    tally.reloaded(5, "no module named app")  # 3 and 4 were replaced
    again = Tally()
    again.restore(tally.as_plain())
    found = of(arbiter, again)
    for cause in ("out_of_memory", "reload", "died"):
        assert found["resqued_worker_exits_total", cause] == 1
    assert found["resqued_reloads_total", "done"] == 1
    assert found["resqued_reloads_total", "failed"] == 1
    assert found["resqued_reloads_total", "replaced"] == 2
    again.reloaded(6, None)
    assert again.reloads["replaced"] == 2


def test_no_label_is_a_function(arbiter):
    text = Metrics(arbiter, Counts(arbiter), Tally()).text().decode()
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"version", "state", "result", "queue", "outcome", "le"}


def test_a_thousand_workers_and_two_hundred_queues_are_rendered_in_little_time():
    """In seconds of the processor, so that others on the machine do not count."""
    names = [f"queue-{number}" for number in range(200)]
    workers = [make_worker(number=n, state=WorkerState.IDLE) for n in range(1, 1001)]
    counts = make_queue_counts(started=9, waits=(1,) * 16, runs=(2,) * 16)
    arbiter = FakeArbiter(
        workers=workers,
        queues={name: make_queue_facts(name=name) for name in names},
        counts=dict.fromkeys(names, counts),
    )
    metrics = Metrics(arbiter, Counts(arbiter), Tally())
    metrics.text()
    metrics._made = 0.0
    began = time.thread_time()
    assert len(metrics.text()) > 300_000
    assert time.thread_time() - began < 0.05


@pytest.fixture
def scraped(resqued, queue):
    arbiter = resqued(
        *("-n", 2, "--http", ANY, "--queue", "high", "--queue", STRANGE.replace("\n", "")),
        expect_errors="told to fail|Traceback|has died|jobs.*fail",
    )
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=30)
    return arbiter, port


def test_promtool_has_nothing_to_say(scraped, queue):
    _, port = scraped
    queue("high").enqueue("harness.jobs.noop")
    queue("high").enqueue("harness.jobs.fail")
    started = ("resqued_jobs_started_total", "high")

    def both_ended() -> bool:
        return samples(ask(port, "/metrics").text).get(started) == 2

    wait_for(both_ended, 20)
    answer = ask(port, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(
        [needs.program("promtool", "prometheus"), "check", "metrics"],
        input=answer.body,
        capture_output=True,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_totals_never_fall_over_respawn_reload_and_reexec(scraped, queue):
    arbiter, port = scraped
    seen: dict[tuple[str, ...], float] = {}

    def scrape() -> dict[tuple[str, ...], float]:
        found = samples(ask(port, "/metrics").text)
        for key in (key for key in found if key[0].endswith(("_total", "_count", "_bucket"))):
            if key[0].startswith("resqued_"):
                assert found[key] >= seen.get(key, 0), key
                seen[key] = found[key]
        return found

    def wait_until(*key: str, value: float) -> None:
        wait_for(lambda: scrape().get(key) == value, 30, f"{key} to be {value}")

    queue("high").enqueue("harness.jobs.noop")
    wait_until("resqued_jobs_total", "high", "finished", value=1)
    queue("high").enqueue("harness.jobs.kill_self")
    wait_until("resqued_jobs_total", "high", "failed", value=1)
    wait_until("resqued_worker_exits_total", "died", value=1)
    arbiter.signal("HUP")
    wait_until("resqued_reloads_total", "done", value=1)
    wait_until("resqued_worker_exits_total", "reload", value=2)
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec done", timeout=30)
    wait_until("resqued_reloads_total", "done", value=2)  # a re-exec ends with one
    wait_until("resqued_jobs_total", "high", "finished", value=1)
    assert scrape()["resqued_worker_exits_total", "died"] == 1


def test_the_metrics_of_the_application(resqued, queue, tmp_path):
    folder = tmp_path / "multiproc"
    folder.mkdir()
    app = """
        from prometheus_client import Counter, Gauge

        sold = Counter("shop_sold", "Things sold.", ["kind"])
        open_ = Gauge("shop_open", "Open shops.", multiprocess_mode="livesum")

        def sell(kind):
            sold.labels(kind).inc()
            open_.set(1)
    """
    arbiter = resqued(
        "-n", 1, "-r", "app", "--http", ANY, app=app, PROMETHEUS_MULTIPROC_DIR=str(folder)
    )
    port = port_of(arbiter)

    def served() -> dict[tuple[str, ...], float]:
        return samples(ask(port, "/metrics").text)

    for _ in range(3):
        queue().enqueue("app.sell", "book")
    wait_for(lambda: served().get(("shop_sold_total", "book")) == 3, 30)
    assert served()["shop_open",] == 1
    assert ("resqued_workers", "idle") in served()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=1 retired", timeout=30)
    wait_for(lambda: not served().get(("shop_open",)), 30)  # it was the old worker's
    assert served()["shop_sold_total", "book"] == 3
