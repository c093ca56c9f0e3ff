"""examples/monitoring: what promtool says of the rules, and whether all metrics in them exist."""

from __future__ import annotations

import json
import re
import subprocess
from urllib.request import urlopen

import pytest

from harness import jobs, needs
from harness.server import free_port
from harness.waiting import scaled, wait_for
from recipes.conftest import EXAMPLES

HERE = EXAMPLES / "monitoring"
RULES = (HERE / "rules.yml").read_text()
DASHBOARD = json.loads((HERE / "grafana.json").read_text())


def expressions():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def names(text):
    """Metrics of resqued's in expressions, but for recorded ones."""
    found = re.findall(r"(?<![\w:])resqued_\w+", text)
    return {re.sub(r"_bucket$", "", name) for name in found}


@pytest.fixture
def promtool():
    program = needs.program("promtool", "prometheus")

    def promtool(*words, say=""):
        done = subprocess.run(
            [program, *map(str, words)],
            cwd=HERE,
            input=say,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=scaled(60),
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return promtool


def test_promtool_accepts_the_configuration_and_the_rules(promtool):
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")


def test_the_alerts_come_when_they_should(promtool):
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yml")


def test_the_expressions_of_the_dashboard_are_valid(promtool, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": each.replace("$__rate_interval", "5m")}
        for number, each in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_is_complete():
    """What Grafana's import needs, and no two panels in one place."""
    assert {"title", "uid", "schemaVersion", "templating", "panels"} <= DASHBOARD.keys()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == variables


def test_every_metric_exists_and_promtool_finds_no_fault_in_them(promtool, resqued, queue, ends):
    port = free_port()
    arbiter = resqued("-n", 2, "--http", f"127.0.0.1:{port}")
    arbiter.wait_for_workers(2)
    ends(queue().enqueue(jobs.noop))
    queue("unserved").enqueue(jobs.noop)
    wanted = names(RULES) | names(" ".join(expressions()))
    assert len(wanted) > 15
    text = ""

    def missing():
        nonlocal text
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=scaled(10)) as answer:
            text = answer.read().decode()
        return wanted - set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))

    wait_for(lambda: not missing(), 30, f"all of {wanted}")
    assert promtool("check", "metrics", say=text) == ""
