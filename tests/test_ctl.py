"""`resquedctl` and the control socket: verbs, refusals, waiting, and clients that mean no good."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest

from harness import jobs
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for
from resqued.control import place
from resqued.control.packets import LONGEST, VERSION

COMMAND = str(BIN / "resquedctl")


def connect(arbiter) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(arbiter.socket))
    connection.settimeout(scaled(10))
    return connection


def request(verb: str, **more: object) -> bytes:
    return json.dumps({"version": VERSION, "verb": verb, **more}).encode()


def test_the_socket_is_the_users_alone_and_goes_with_the_arbiter(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    mode = os.lstat(str(arbiter.socket)).st_mode & 0o777
    assert mode == 0o600
    assert os.lstat(arbiter.directory / "resqued").st_mode & 0o777 == 0o700
    assert arbiter.stop("QUIT") == 0
    assert not os.path.lexists(str(arbiter.socket))


def test_the_socket_is_named_by_a_relative_path_or_a_link(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    link = arbiter.directory / "link"
    link.symlink_to(arbiter.socket)
    for path in (f"resqued/{arbiter.pid}.sock", f"./resqued//{arbiter.pid}.sock", "link"):
        for words in (["status"], ["recycle", "--all"], ["why", "worker", "1"]):
            done = subprocess.run(
                [COMMAND, "--control", path, *words],
                env=environment(),
                cwd=arbiter.directory,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr


def test_scale_is_exact_relative_and_refused(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    done = arbiter.control("scale", 3, "--wait")
    assert (done.returncode, done.stdout) == (0, "scale: done; workers=3 (1-3: default)\n")
    arbiter.wait_for("scale 3: asked for by resquedctl")
    assert len(arbiter.workers()) == 3
    assert "workers=2" in arbiter.control("scale", "-1", "--wait").stdout
    assert "workers=4" in arbiter.control("scale", "+2", "--wait").stdout
    refused = arbiter.control("scale", 100000)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "at most 4095" in refused.stderr
    assert arbiter.control("scale", "many").returncode == 64


def test_a_refused_plan_and_its_remedy_are_one_line(resqued):
    arbiter = resqued("-n", 2, "--queue", "a=2")
    arbiter.wait_for_workers(2)
    refused = arbiter.control("scale", 5)
    said = "worker 3 of 5 would have no queue; raise the share of 'a' (now 2), the largest, or"
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert said in refused.stderr


def test_reload_with_wait_is_a_gate(resqued):
    arbiter = resqued("-n", 1, "-r", "app", app="", expect_errors="reload failed|gen=|Traceback")
    arbiter.wait_for_workers(1)
    done = arbiter.control("reload", "--wait")
    assert (done.returncode, done.stdout) == (0, "reload: done; generation 2 is in service\n")
    (arbiter.directory / "app.py").write_text("import nothing_like_it")
    refused = arbiter.control("reload", "--wait")
    assert refused.returncode == 1
    assert "No module named 'nothing_like_it'" in refused.stderr
    (arbiter.directory / "app.py").write_text("import time; time.sleep(1000)")
    late = arbiter.control("reload", "--wait", "--timeout", 1)
    assert late.returncode == 75
    assert "generation 4: booting" in late.stderr
    (arbiter.directory / "app.py").write_text("")
    assert arbiter.control("reload", "--wait").returncode == 0


def test_a_reload_that_a_newer_one_replaces_says_so(resqued, gate):
    arbiter = resqued("-n", 1, "-r", "app", app="")
    arbiter.wait_for_workers(1)
    loading = gate()
    slow = f"from harness import jobs; jobs.wait_at({str(loading)!r})"
    (arbiter.directory / "app.py").write_text(slow)
    with connect(arbiter) as older:
        older.send(request("reload", wait=True))
        assert json.loads(older.recv(LONGEST))["kind"] == "accepted"
        loading.wait_until_reached()
        (arbiter.directory / "app.py").write_text("")
        assert arbiter.control("reload", "--wait").returncode == 0
        answer = json.loads(older.recv(LONGEST))
    assert answer["kind"] == "refused"
    assert answer["facts"]["reason"] == "replaced by a newer reload, generation 3"


def test_reload_with_wait_is_followed_over_a_reexec(resqued):
    """It is asked for while the re-exec is checked: the generation of the new image is its end."""
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec: checking")
    done = arbiter.control("reload", "--wait", timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "reload: done; generation 2 is in service\n"
    arbiter.wait_for("re-exec done")


def test_reexec_with_wait_follows_it_to_the_new_image(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    done = arbiter.control("reexec", "--wait", timeout=120)
    assert (done.returncode, done.stdout) == (0, "reexec: done; generation 2 is in service\n")
    assert arbiter.control("scale", 2, "--wait").returncode == 0, "the socket is still there"


def test_rest_resume_recycle(resqued):
    arbiter = resqued("-n", 2)
    before = arbiter.wait_for_workers(2)
    assert arbiter.control("rest", "--wait").returncode == 0
    assert arbiter.workers() == {}
    none = arbiter.control("recycle", "--all")
    assert (none.returncode, none.stderr) == (1, "recycle: there is no worker to be replaced\n")
    assert arbiter.control("resume", "--wait").returncode == 0
    again = arbiter.wait_for_workers(2)
    assert again[1].pid != before[1].pid
    assert arbiter.control("recycle", 2, "--wait").stdout == "recycle 2: done\n"
    after = arbiter.wait_for_workers(2)
    assert after[1].pid == again[1].pid
    assert after[2].pid != again[2].pid
    assert arbiter.control("recycle").returncode == 64
    some = arbiter.control("recycle", 9, 2, "--wait")
    assert (some.returncode, some.stdout) == (1, "recycle 2: done\n")
    assert "there is no worker 9" in some.stderr
    after = arbiter.wait_for_workers(2)
    assert arbiter.control("recycle", "--all").returncode == 0
    assert all(worker.pid != after[n].pid for n, worker in arbiter.wait_for_workers(2).items())


def test_drain_with_wait_is_over_when_the_arbiter_has_no_worker(resqued, queue, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    held = gate()
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    late = arbiter.control("drain", "--wait", "--timeout", 0.5)
    assert late.returncode == 75
    held.open()
    assert arbiter.control("drain", "--wait").returncode in (0, 69)
    assert arbiter.exit() == 0
    assert job.get_status() == "finished"


def following(arbiter, *words) -> subprocess.Popen[str]:
    """`resquedctl` with these words and `--wait`, once its request is accepted."""
    return subprocess.Popen(
        [COMMAND, "--control", str(arbiter.socket), *map(str, words), "--wait"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_drain_of_an_arbiter_that_is_killed_is_not_done(resqued, queue, gate):
    arbiter = resqued("-n", 1, expect_errors="gone|channel")
    arbiter.wait_for_workers(1)
    held = gate()
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    drain = following(arbiter, "drain")
    wait_for(lambda: arbiter.status()["state"] == "draining", 20, "the drain")  # after the answer
    arbiter.signal("KILL")
    _, said = drain.communicate(timeout=scaled(30))
    held.open()
    assert arbiter.exit() == -9
    assert (drain.returncode, said) == (
        1,
        "drain: the arbiter has ended, and 1 of its workers have not\n",
    )


def test_a_drain_whose_connection_ends_goes_on_to_the_end(resqued, queue, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    held = gate()
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    drain = following(arbiter, "drain")
    arbiter.wait_for("draining: ")
    others = [connect(arbiter) for _ in range(200)]  # the oldest are dropped
    with pytest.raises(subprocess.TimeoutExpired):
        drain.communicate(timeout=scaled(1))
    held.open()
    said, _ = drain.communicate(timeout=scaled(30))
    for other in others:
        other.close()
    assert arbiter.exit() == 0
    assert (drain.returncode, said) in ((0, "drain: the arbiter has ended\n"), (0, "drain: done\n"))


@pytest.mark.parametrize("verb", ["drain", "stop", "reexec", "reload"])
def test_a_socket_on_which_nobody_listens_is_no_success(tmp_path, verb):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    done = subprocess.run(
        [COMMAND, "--control", str(path), verb, "--wait"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert "Connection refused" in done.stderr


def test_an_arbiter_that_stands_still_is_called_so(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    arbiter.signal("STOP")
    try:
        for words in (["scale", 2], ["reload", "--wait"], ["drain", "--wait"]):
            late = arbiter.control(*words, "--timeout", 0.5)
            assert late.returncode == 75
            assert "not done in time: the arbiter's process is stopped" in late.stderr
    finally:
        arbiter.signal("CONT")
    assert arbiter.exit(20) == 0


def test_plugins_have_verbs_of_their_own(resqued):
    arbiter = resqued(
        "-n",
        1,
        probe=True,
        config="""
            def control(arbiter, verb, arguments):
                if verb == "greet":
                    return {"hello": arguments["name"], "workers": len(arbiter.workers)}
                if verb == "shout":
                    return "not JSON of the right kind"
        """,
        expect_errors="control",
    )
    arbiter.wait_for_workers(1)
    done = arbiter.control("greet", "name=you")
    assert json.loads(done.stdout) == {"hello": "you", "workers": 1}
    call = arbiter.calls("control")[0]
    assert call.role == "arbiter"
    assert call.arguments["verb"] == "greet"
    assert call.arguments["arguments"] == "dict"
    wrong = arbiter.control("shout")
    assert wrong.returncode == 1
    arbiter.wait_for("hook control: plugin 'resqued.conf.py' .*a dict of plain JSON")
    assert "no plugin has answered 'shout': plugin 'resqued.conf.py' returned" in wrong.stderr
    unknown = arbiter.control("relaod")
    assert unknown.returncode == 1
    assert "there is no verb 'relaod', also of no plugin; did you mean reload?" in unknown.stderr


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"garbage", "this is no JSON"),
        (b"[" * 60000, "this is no JSON"),
        (b"[]", "this is no object"),
        (b'{"version": 99, "verb": "reload"}', "version=99"),
        (b'{"version": 1, "verb": 7}', "verb=7"),
        (b'{"version": 1, "verb": "reload", "arguments": []}', "arguments="),
        (b'{"version": 1, "verb": "reload", "wait": 2}', "wait=2"),
        (b'{"version": 1, "verb": "reload", "arguments": {"x": 1}}', "reload has no argument x"),
        (b'{"version": 1, "verb": "scale", "arguments": {"count": "3"}}', "count='3'"),
        (b'{"version": 1, "verb": "scale"}', "count=None"),
        (b"{" + b" " * LONGEST, "at most 65536 bytes"),
    ],
)
def test_what_cannot_be_understood_is_answered_with_the_reason(resqued, raw, reason):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    with connect(arbiter) as connection:
        connection.send(raw)
        answer = json.loads(connection.recv(LONGEST))
        assert answer["kind"] == "wrong"
        assert reason in answer["facts"]["reason"]
        connection.send(request("scale", arguments={"count": 1}))
        assert json.loads(connection.recv(LONGEST))["kind"] in ("accepted", "done")
    assert "reload: asked for" not in arbiter.log()


def test_clients_that_do_not_read_or_are_too_many_disturb_nobody(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    flood = connect(arbiter)
    flood.setblocking(False)
    sent = 0
    deadline = time.monotonic() + scaled(20)
    while sent < 10_000 and time.monotonic() < deadline:
        try:
            flood.send(request("look_again"))
            sent += 1
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:  # dropped
            break
    many = [connect(arbiter) for _ in range(80)]
    done = arbiter.control("scale", 2, "--wait")
    assert done.returncode == 0, done.stderr
    for connection in (flood, *many):
        connection.close()
    assert arbiter.control("scale", 1, "--wait").returncode == 0


def test_which_arbiter_is_meant(resqued, tmp_path):
    first = resqued("-n", 1, "--name", "mails", "--pid", tmp_path / "pid")
    second = resqued("-n", 1)
    first.wait_for_workers(1)
    second.wait_for_workers(1)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *map(str, words)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=scaled(30),
        )

    which = run("scale", 2)
    assert which.returncode == 64
    for arbiter in (first, second):
        assert f"pid {arbiter.pid}" in which.stderr
    assert run("--name", "mails", "scale", 2, "--wait").returncode == 0
    assert len(first.workers()) == 2
    assert run("--pid", tmp_path / "pid", "scale", 1, "--wait").returncode == 0
    assert f"arbiter {first.pid} running" in run("--name", "mails", "status").stdout
    for wrong in (("--pid", tmp_path / "none"), ("--control", "/none"), ("--name", "none")):
        missing = run(*wrong, "reload")
        assert missing.returncode == 69
        assert "none" in missing.stderr


def test_an_arbiter_without_a_socket_has_a_status_and_is_told_from_none(resqued, tmp_path):
    arbiter = resqued("-n", 1, "--control", "none", "--pid", tmp_path / "pid")
    arbiter.wait_for_workers(1)
    named = [COMMAND, "--pid", str(tmp_path / "pid")]
    options = {"env": environment(), "capture_output": True, "text": True}
    shown = subprocess.run([*named, "status"], timeout=scaled(30), **options)
    assert shown.returncode == 0
    assert f"arbiter {arbiter.pid} running" in shown.stdout
    refused = subprocess.run([*named, "reload"], timeout=scaled(30), **options)
    assert refused.returncode == 69
    assert f"the arbiter, pid {arbiter.pid}, has no control socket" in refused.stderr


def test_the_status_of_a_socket_that_no_arbiter_has(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(tmp_path / "socket"))
        done = subprocess.run(
            [COMMAND, "--control", str(tmp_path / "socket"), "status"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=scaled(30),
        )
    assert done.returncode == 69
    assert "no arbiter of this user says that it listens there" in done.stderr


def test_without_a_place_for_it_the_arbiter_does_without_a_socket(resqued, tmp_path):
    (tmp_path / "file").touch()
    arbiter = resqued("-n", 1, "--control", tmp_path / "file" / "socket")
    arbiter.wait_for("no control socket, so resquedctl has only signals: .*Not a directory")
    arbiter.wait_for_workers(1)


def test_a_folder_that_others_may_write_to_is_passed_over(resqued, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    arbiter = resqued("-n", 1, RUNTIME_DIRECTORY=str(tmp_path / "shared"))
    arbiter.wait_for_workers(1)
    assert list((tmp_path / "shared").iterdir()) == []
    assert arbiter.control("scale", 1).returncode == 0


@pytest.mark.parametrize("value", ["none", "own.sock"])
def test_the_setting_names_the_socket_or_makes_none(resqued, value):
    arbiter = resqued("-n", 1, "--control", value)
    arbiter.wait_for_workers(1)
    assert not os.path.lexists(str(arbiter.socket))
    assert (arbiter.directory / "own.sock").exists() is (value == "own.sock")


def test_what_lies_at_the_named_path_is_left_as_it_is(resqued, tmp_path):
    (tmp_path / "own.sock").write_text("precious")
    arbiter = resqued("-n", 1, "--control", tmp_path / "own.sock")
    arbiter.wait_for("no control socket.*there is something else, which is left as it is")
    arbiter.wait_for_workers(1)
    assert (tmp_path / "own.sock").read_text() == "precious"


def test_the_socket_of_a_killed_arbiter_is_replaced(resqued, tmp_path):
    path = tmp_path / "own.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    arbiter = resqued("-n", 1, "--control", path)
    arbiter.wait_for_workers(1)
    wait_for(lambda: "control" not in arbiter.log(), what="no complaint")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))


def test_sockets_of_killed_arbiters_are_swept_and_nothing_else(tmp_path):
    folder = tmp_path / "resqued"
    folder.mkdir(mode=0o700)
    kind = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(*kind) as dead, socket.socket(*kind) as live, socket.socket(*kind) as named:
        dead.bind(str(folder / "1.sock"))  # there is a process 1
        live.bind(str(folder / "4.sock"))
        live.listen()
        named.bind(str(folder / "mine.sock"))
        (folder / "5.sock").write_text("no socket")
        dead.close()
        listener, path = place.listen(None, {"XDG_RUNTIME_DIR": str(tmp_path)}, 77)
        listener.close()
    assert path == str(folder / "77.sock")
    names = {each.name for each in folder.iterdir()}
    assert names == {"4.sock", "5.sock", "77.sock", "mine.sock"}
