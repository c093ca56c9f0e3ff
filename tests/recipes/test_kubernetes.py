"""examples/kubernetes: the manifests have only fields that exist, and what they run does it."""

from __future__ import annotations

import copy
import json
import time
from itertools import pairwise
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from rq import Queue

from harness import jobs
from harness.server import free_port
from harness.waiting import scaled, wait_for, wait_for_exit
from recipes.conftest import EXAMPLES, SCHEMAS

HERE = EXAMPLES / "kubernetes"
KEDA = SCHEMAS / "keda.json"
TO_END = 15
"""Seconds that a stop needs at most, with a margin."""


@pytest.fixture
def pod(documents):
    """The Deployment's pod and its container."""
    (deployment,) = documents(HERE / "deployment.yaml")
    spec = deployment["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


@pytest.fixture
def kubernetes(call, tmp_path):
    """`kubernetes(document)`: what Kubernetes' own schemas have against it."""

    def check(document, code=0):
        file = tmp_path / "document.json"
        file.write_text(json.dumps(document))
        return call("kubernetes-validate", "--strict", file, code=code)

    return check


def test_kubernetes_knows_every_field(documents, kubernetes):
    (deployment,) = documents(HERE / "deployment.yaml")
    kubernetes(deployment)
    (scaled_job,) = documents(HERE / "scaledjob.yaml")
    head = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "resqued-reports"}}
    kubernetes({**head, "spec": scaled_job["spec"]["jobTargetRef"]})
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    assert "terminationGracePeriod" in kubernetes(deployment, code=1)


def test_keda_knows_every_field(documents, complaint):
    found = [
        each for name in ("scaledobject", "scaledjob") for each in documents(HERE / f"{name}.yaml")
    ]
    for document in found:
        assert complaint(KEDA, document) == ""
    for change in (
        lambda spec: spec.update(maxReplicas=3),
        lambda spec: spec["triggers"][0]["metadata"].update(listLength=5),
        lambda spec: spec["triggers"][0]["metadata"].pop("address"),
    ):
        wrong = copy.deepcopy(found[0])
        change(wrong["spec"])
        assert complaint(KEDA, wrong)


def test_the_queues_that_are_measured_are_those_that_are_served(documents, pod):
    scaled_object, _ = documents(HERE / "scaledobject.yaml")
    (scaled_job,) = documents(HERE / "scaledjob.yaml")
    (worker,) = scaled_job["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
    for kind, container in ((scaled_object, pod[1]), (scaled_job, worker)):
        lists = [each["metadata"]["listName"] for each in kind["spec"]["triggers"]]
        command = container["command"]
        served = [word for before, word in pairwise(command) if before == "--queue"]
        assert lists == [f"rq:queue:{name}" for name in served]


def test_the_grace_covers_the_drain_and_the_stop_after_it(pod):
    spec, container = pod
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = float(command[command.index("--timeout") + 1])
    assert spec["terminationGracePeriodSeconds"] >= drain + TO_END


@pytest.fixture
def start(pod, container, tmp_path):
    """The container's command, with an application and a port of the test's."""
    port = free_port()

    def start():
        words = [*pod[1]["command"], *pod[1]["args"]]
        words[words.index("0.0.0.0:9180")] = f"127.0.0.1:{port}"
        words[words.index("shop.tasks")] = "app"
        return container(words, app="")

    def answer(probe):
        path = pod[1][f"{probe}Probe"]["httpGet"]["path"]
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=scaled(5)) as answer:
                return answer.status
        except HTTPError as error:
            return error.code
        except OSError:
            return None

    start.answer = answer
    return start


def pre_stop(pod, one, timeout=None):
    command = list(pod[1]["lifecycle"]["preStop"]["exec"]["command"])
    if timeout:
        command[command.index("--timeout") + 1] = str(timeout)
    return one.exec(*command)


def test_a_pod_that_goes_finishes_its_jobs(start, pod, queue, gate, valkey):
    one = start()
    wait_for(lambda: start.answer("readiness") == 200, 30, "it to be ready")
    assert start.answer("liveness") == start.answer("startup") == 200
    valkey.stop()
    wait_for(lambda: start.answer("readiness") == 503, 30, "it not to be ready without Redis")
    assert start.answer("liveness") == 200
    valkey.start()
    wait_for(lambda: start.answer("readiness") == 200, 30, "it to be ready again")

    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    assert pre_stop(pod, one, timeout=1).returncode == 75, "the job goes on"
    wait_for(lambda: start.answer("readiness") == 503, 10, "it not to be ready any more")
    door.open()
    done = pre_stop(pod, one)
    assert done.returncode in (0, -9), "what runs in a container ends with its process 1"
    assert wait_for_exit(one.outside.process, 20) == 0
    assert job.get_status() == "finished"


def test_what_is_not_done_by_then_is_put_back(start, pod, queue, gate, connection):
    one = start()
    one.outside.wait_for_workers(4)
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    assert pre_stop(pod, one, timeout=1).returncode == 75
    began = time.monotonic()
    one.signal("TERM")
    assert wait_for_exit(one.outside.process, TO_END) == 0
    assert time.monotonic() - began < scaled(TO_END)
    assert Queue(connection=connection).job_ids == [job.id]


def test_a_pod_of_the_scaled_job_ends_when_its_queue_is_empty(documents, resqued, queue):
    (scaled_job,) = documents(HERE / "scaledjob.yaml")
    (worker,) = scaled_job["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
    words = [*worker["command"][1:], *worker["args"]]
    words[words.index("shop.tasks")] = "app"
    words[words.index("120")] = "1"
    reports = [queue("reports").enqueue(jobs.noop) for _ in range(3)]
    assert resqued(*words, app="").exit(60) == 0
    assert {job.get_status() for job in reports} == {"finished"}
