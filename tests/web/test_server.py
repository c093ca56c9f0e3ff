"""The server of the built-in plugin `http`: slow, greedy and hostile clients, and what it keeps."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest

from harness.waiting import scaled, wait_for
from harness.web import ANY, ask, port_of, read_all, send, wait_for_status
from resqued_plugins.http import address, carried, message
from resqued_plugins.http.carried import Carried
from resqued_plugins.http.message import BadRequest, Response
from resqued_plugins.http.server import CLIENTS, Server

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def served():
    """`served(answer)`: the port of a server in a thread of the test."""
    servers: list[tuple[Server, threading.Thread]] = []

    def serve(answer=lambda request: Response(200, request.path.encode())) -> int:
        server = Server(address.listen("127.0.0.1:0"), answer)
        thread = threading.Thread(target=server.turn, args=(300,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return int(server.listener.getsockname()[1])

    yield serve
    for server, thread in servers:
        server.close()
        thread.join(scaled(5))
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_answered(raw, status):
    with pytest.raises(BadRequest) as refused:
        message.parse(raw)
    assert refused.value.status == status
    assert message.refusal(refused.value).encode().startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("raw", "path", "host"),
    [
        (GET, "/livez", "localhost"),
        (b"GET /a?b=c HTTP/1.1\r\nHost: LocalHost:80\r\nX: \xff\r\n\r\n", "/a", "localhost"),
        (b"HEAD / HTTP/1.1\r\nhost:[::1]:9181\r\n\r\n", "/", "[::1]"),
        (b"GET / HTTP/1.0\r\n\r\n", "/", None),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", ""),
    ],
)
def test_what_is_understood(raw, path, host):
    request = message.parse(raw)
    assert (request.path, request.host) == (path, host)


@pytest.mark.parametrize("text", ["9181", "localhost", "a:b", "::1:80", "h:65536", "h h:80", ""])
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        address.read(text)


@pytest.mark.parametrize("text", ["localhost:0", "127.0.0.1:9181", ":9181", "[::1]:9181"])
def test_what_is_an_address(text):
    assert address.read(text) == text


def test_head_has_the_headers_alone(served):
    port = served()
    raw = read_all(send(port, b"HEAD /abc HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length: 4\r\n" in raw
    assert b"X-Content-Type-Options: nosniff\r\n" in raw


def test_a_request_in_many_pieces_is_one(served):
    client = send(served(), GET[:7])
    for byte in GET[7:]:
        client.sendall(bytes([byte]))
    assert b"/livez" in read_all(client)


def test_a_request_without_an_end_is_refused(served):
    raw = read_all(send(served(), b"GET / HTTP/1.1\r\nX: " + b"a" * message.LONGEST))
    assert raw.startswith(b"HTTP/1.1 431 ")


def test_what_an_answer_raises_is_500(served):
    def fails(request):
        raise ZeroDivisionError

    raw = b""
    server = Server(address.listen("127.0.0.1:0"), fails)
    client = send(server.listener.getsockname()[1], GET)
    with pytest.raises(ZeroDivisionError):
        while True:
            server.turn(scaled(5))
    server_closes = threading.Thread(target=server.turn, args=(scaled(3),))
    server_closes.start()
    raw = read_all(client)
    server.close()
    server_closes.join()
    assert raw.startswith(b"HTTP/1.1 500 ")


def test_clients_that_say_nothing_are_dropped_for_those_that_ask(served):
    port = served()
    silent = [send(port, b"GET") for _ in range(CLIENTS)]
    assert ask(port, "/livez").status == 200
    assert read_all(silent[0]) == b""  # the oldest made room
    for each in silent[1:]:
        each.close()


def test_a_client_that_reads_nothing_holds_up_no_other(served):
    large = b"x" * 20_000_000
    port = served(lambda request: Response(200, large if request.path == "/large" else b"small"))
    greedy = [send(port, GET.replace(b"/livez", b"/large")) for _ in range(5)]
    assert ask(port, "/small").body == b"small"
    assert ask(port, "/large", timeout=60).body == large
    for each in greedy:
        each.close()


def test_a_client_that_is_slow_is_dropped(served):
    client = send(served(), b"GET / HTTP/1.1\r\n")
    with client:
        assert client.recv(1) == b""  # after server.SECONDS


def test_the_loop_turns_under_hostile_clients(resqued):
    arbiter = resqued("-n", 1, "--http", ANY)
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=20)
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            try:
                read_all(send(port, GET))
            except OSError:
                continue

    def garbage() -> None:
        while not over.is_set():
            try:
                send(port, b"\xff" * 5000).close()
            except OSError:
                continue

    threads = [threading.Thread(target=each) for each in (flood, flood, garbage, garbage)]
    for each in threads:
        each.start()
    silent = [send(port, b"GET") for _ in range(200)]
    try:
        mark = arbiter.mark()
        arbiter.signal("TTIN")
        arbiter.wait_for(r"worker=2 .* ready", after=mark, timeout=20)
        arbiter.signal("HUP")
        arbiter.wait_for("gen=2 in service", timeout=20)
        assert ask(port, "/livez", timeout=30).status == 200
    finally:
        over.set()
        for each in threads:
            each.join()
        for each in silent:
            each.close()
    wait_for_status(port, "/readyz", 200)


def test_the_listener_is_kept_over_a_reload_and_a_reexec(resqued):
    """Connections that are made while the image is replaced wait for the new one."""
    arbiter = resqued("-n", 1, "--http", ANY)
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=20)
    refused = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=scaled(10)).close()
            except ConnectionRefusedError as error:
                refused.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        arbiter.signal("HUP")
        arbiter.wait_for("gen=2 in service", timeout=20)
        arbiter.signal("USR2")
        arbiter.wait_for("re-exec done", timeout=30)
        arbiter.wait_for("gen=3 in service", timeout=30)
    finally:
        over.set()
        watcher.join()
    assert not refused
    wait_for_status(port, "/readyz", 200)
    listening = [each for each in arbiter.wait_for("http: listening on")]
    assert len(listening) == 2  # the new image has the same socket
    for server in arbiter.fork_servers():
        assert not [c for c in server.net_connections("tcp") if c.laddr.port == port]
        assert "RESQUED_HTTP_DESCRIPTORS" not in server.environ()


def test_a_reload_changes_the_address(resqued):
    arbiter = resqued("-n", 1, config="http = '127.0.0.1:0'")
    port = port_of(arbiter)
    wait_for_status(port, "/readyz", 200, timeout=20)
    (arbiter.directory / "resqued.conf.py").write_text("http = 'localhost:0'\nready_workers = 9")
    mark = arbiter.mark()
    arbiter.signal("HUP")
    arbiter.wait_for(r"http: listening on \S+$", after=mark, timeout=20)
    with pytest.raises(OSError):
        ask(port, "/livez")
    assert ask(port_of(arbiter), "/readyz").json["needed"] == 9
    (arbiter.directory / "resqued.conf.py").write_text("")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=3 in service", timeout=20)
    with pytest.raises(OSError):
        wait_for(lambda: ask(port_of(arbiter), "/livez") is None, 5)


def test_an_address_in_use_refuses_the_start(resqued):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arbiter = resqued("--http", f"127.0.0.1:{port}", expect_errors="cannot listen")
        assert arbiter.exit() == 78
    assert f"http: cannot listen on 127.0.0.1:{port}: Address already in use" in arbiter.log()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("9181", "http: 9181 is not text"),
        ("'9181'", "'9181': write HOST:PORT, such as 127.0.0.1:9181, or :9181 for all"),
        ("'nowhere.invalid:9181'", "http: cannot listen on nowhere.invalid:9181: "),
    ],
)
def test_an_address_that_cannot_be_is_told_with_the_remedy(resqued, value, told):
    arbiter = resqued(config=f"http = {value}", expect_errors="cannot listen|error:")
    assert arbiter.exit(timeout=30) == 78
    assert told in arbiter.log()


def test_a_socket_that_a_plugin_closes_is_opened_again(resqued):
    arbiter = resqued(
        *("-n", 1, "--http", ANY),
        config="""
            import os
            from pathlib import Path

            def tick(arbiter, now):
                if Path("close").exists():
                    Path("close").unlink()
                    os.closerange(3, 256)
        """,
        expect_errors="closed|signal 9",
    )
    wait_for_status(port_of(arbiter), "/readyz", 200, timeout=20)
    (arbiter.directory / "close").touch()
    arbiter.wait_for("http: a plugin has closed its socket", timeout=20)
    arbiter.wait_for("http: listening on", times=2)
    wait_for_status(port_of(arbiter), "/livez", 200)
    assert arbiter.stop("TERM") == 0


def test_what_is_carried_over_an_exec_is_found_once():
    env: dict[str, str] = {}
    listener = address.listen("127.0.0.1:0")
    where = listener.getsockname()
    Carried(listener, env).write({"address": "a", "tally": {"exits": {"died": 2}}})
    listener.detach()  # as if it were another image's
    found, facts = carried.take(env)
    assert found is not None and found.getsockname() == where
    assert not os.get_inheritable(found.fileno())
    assert (facts["address"], facts["tally"]) == ("a", {"exits": {"died": 2}})
    assert carried.take(env) == (None, {})
    found.close()


def test_descriptors_that_are_something_else_by_now_are_left_alone():
    env: dict[str, str] = {}
    with socket.create_server(("127.0.0.1", 0)) as other, address.listen("127.0.0.1:0") as listener:
        kept = Carried(listener, env)
        kept.write({"address": "a"})
        memory = env[carried.VARIABLE].partition(",")[2]
        env[carried.VARIABLE] = f"{other.fileno()},{memory}"
        found, facts = carried.take(env)
        assert (found, facts["address"]) == (None, "a")
        assert other.getsockname()  # still open
        env[carried.VARIABLE] = f"{listener.fileno()},{other.fileno()}"
        assert carried.take(env) == (None, {})
        assert other.getsockname() and listener.getsockname()


def test_a_reload_that_drops_the_plugin_closes_the_socket(resqued):
    arbiter = resqued("-n", 1, config="http = '127.0.0.1:0'")
    port = port_of(arbiter)
    wait_for_status(port, "/livez", 200)
    (arbiter.directory / "resqued.conf.py").write_text("plugins = ['no:http']")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=20)

    def refused():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    wait_for(refused, what="nobody to listen")
