"""Connections to a real process: every configured limit, floods, and a stop with notice."""

import json
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs
import httpx
import pytest
import trustme
from service_kit import Process, environment, identity, process

from strata.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.alone]

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(server: Process, source: str = "127.0.0.1") -> socket.socket:
    address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    return socket.create_connection(address, timeout=30, source_address=(source, 0))


def head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def rest(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def seconds_until_closed(connection: socket.socket) -> float:
    began = time.monotonic()
    rest(connection)
    return time.monotonic() - began


def rss_growth(server: Process, before: int) -> float:
    return (server.rss() - before) / 2**20


def test_each_deadline_is_the_configured_one(tmp_path: Path, settings: Settings) -> None:
    """Idle connections, slow heads and slow bodies are cut in time; failed authentications have their burst."""
    limits = {
        "STRATA_KEEP_ALIVE_SECONDS": "1",
        "STRATA_REQUEST_HEAD_SECONDS": "2",
        "STRATA_REQUEST_BODY_SECONDS": "3",
        "STRATA_AUTH_FAILURE_BURST": "2",
        "STRATA_AUTH_FAILURES_PER_SECOND": "0.001",
    }
    with process(tmp_path, **environment(settings), **limits) as server, ExitStack() as stack:
        idle, silent, slow_head, slow_body = (stack.enter_context(connect(server)) for _ in range(4))
        idle.sendall(GET)
        slow_head.sendall(GET[:-2])
        slow_body.sendall(head("POST", "/v1/materialize", identity() | {"Content-Length": "10"}) + b"{")
        assert 0.8 < seconds_until_closed(idle) < 1.9
        assert seconds_until_closed(silent) < 2
        assert b"" == rest(slow_head)
        assert rest(slow_body).startswith(b"HTTP/1.1 408")
        with httpx.Client(base_url=server.url) as client:
            assert [401, 401, 429] == [client.get("/v1/artifacts").status_code for _ in range(3)]
            assert 200 == client.get("/v1/artifacts", headers=identity()).status_code


def test_caps_are_kept_and_silent_clients_pay_for_them(tmp_path: Path, settings: Settings) -> None:
    """At each limit, in total and per peer, the longest silent connection is closed, and active clients are answered."""
    caps = {"STRATA_MAX_CONNECTIONS": "8", "STRATA_MAX_CONNECTIONS_PER_PEER": "5"}
    with process(tmp_path, **environment(settings), **caps) as server, ExitStack() as stack:
        own = [stack.enter_context(connect(server)) for _ in range(6)]
        assert b"" == rest(own[0])
        others = [stack.enter_context(connect(server, "127.0.0.2")) for _ in range(4)]
        assert b"" == rest(own[1])
        for connection in (own[-1], others[-1]):
            connection.sendall(GET)
            assert connection.recv(12) == b"HTTP/1.1 200"


def test_five_thousand_silent_connections_do_not_stop_a_good_client(
    tmp_path: Path, settings: Settings
) -> None:
    """Silent connections delay no client, use little memory, and write few log lines."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with process(tmp_path, **environment(settings)) as server, ExitStack() as stack:
            kept = stack.enter_context(httpx.Client(base_url=server.url, headers=identity(), timeout=20))
            assert 200 == kept.get("/v1/artifacts").status_code
            before, slowest = server.rss(), 0.0
            for number in range(5000):
                stack.enter_context(connect(server, f"127.0.0.{2 + number // 1000}"))
                if number % 250 == 0:
                    began = time.monotonic()
                    assert 200 == kept.get("/v1/artifacts").status_code
                    with httpx.Client(base_url=server.url, headers=identity(), timeout=20) as fresh:
                        assert 200 == fresh.get("/v1/artifacts").status_code
                    slowest = max(slowest, time.monotonic() - began)
            assert slowest < 5
            assert rss_growth(server, before) < 200
            assert len(server.log.read_text().splitlines()) < 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stop_with_notice_is_seen_by_who_asks_for_readiness(tmp_path: Path, settings: Settings) -> None:
    """During the notice, probes on old and new connections get 503, other requests are answered; then the listener closes."""
    notice = {"STRATA_SHUTDOWN_NOTICE_SECONDS": "3"}
    with process(tmp_path, **environment(settings), **notice) as server:
        with httpx.Client(base_url=server.url) as old:
            assert 200 == old.get("/health/ready").status_code
            server.popen.send_signal(signal.SIGTERM)
            began = time.monotonic()
            while (answer := old.get("/health/ready")).status_code == 200 and time.monotonic() < began + 2:
                pass
            assert (503, "draining") == (answer.status_code, answer.json()["status"])
            assert 503 == httpx.get(f"{server.url}/health/ready").status_code
            assert 200 == httpx.get(f"{server.url}/v1/artifacts", headers=identity()).status_code
        assert 0 == server.popen.wait(20)
        assert 3 <= time.monotonic() - began < 8


@contextmanager
def on_unix_socket(tmp_path: Path, settings: Settings) -> Iterator[tuple[Process, Path]]:
    path = tmp_path / "strata.sock"
    with process(tmp_path, unix_socket=path, **environment(settings), STRATA_UNIX_SOCKET=str(path)) as server:
        yield server, path


def test_a_unix_socket_is_served_and_survives_a_killed_server(tmp_path: Path, settings: Settings) -> None:
    """A killed server's socket is replaced; a second server is refused in one sentence."""
    with on_unix_socket(tmp_path, settings) as (server, path):
        server.kill()
        assert path.exists()
    with on_unix_socket(tmp_path, settings) as (server, path):
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://strata", headers=identity()) as client:
            assert 200 == client.get("/v1/artifacts").status_code
        apart = attrs.evolve(
            settings, artifact_dir=str(tmp_path / "other"), cache_dir=str(tmp_path / "other-cache")
        )
        with (
            pytest.raises(AssertionError, match="another server listens"),
            on_unix_socket(tmp_path, apart),
        ):
            pass
        server.popen.send_signal(signal.SIGTERM)
        assert 0 == server.popen.wait(20)
        assert not path.exists()


def test_a_port_in_use_is_one_sentence(tmp_path: Path, settings: Settings) -> None:
    """A used port is one sentence with its settings, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(AssertionError, match=r"Error: cannot listen on 127.0.0.1:\d+ \(host, port\)"),
            process(tmp_path, port=port, **environment(settings)),
        ):
            pass
    assert "Traceback" not in "".join(path.read_text() for path in tmp_path.glob("*.log"))


def test_only_the_proxys_certificate_gets_in(tmp_path: Path, settings: Settings) -> None:
    """With `tls_certificate`, `tls_key` and `tls_client_ca` only a client with the proxy's certificate connects."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "client_ca", "proxy")}
    made.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    made.private_key_pem.write_to_path(str(files["key"]))
    authority.cert_pem.write_to_path(str(files["client_ca"]))
    authority.issue_cert("proxy").private_key_and_cert_chain_pem.write_to_path(str(files["proxy"]))
    tls = {f"STRATA_TLS_{name.upper()}": str(files[name]) for name in ("certificate", "key", "client_ca")}
    context = ssl.create_default_context(cafile=str(files["client_ca"]))
    context.load_cert_chain(files["proxy"])
    nobody = ssl.create_default_context(cafile=str(files["client_ca"]))
    with process(tmp_path, tls=context, **environment(settings), **tls) as server:
        assert 200 == httpx.get(f"{server.url}/v1/artifacts", headers=identity(), verify=context).status_code
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/health", verify=nobody)
    assert "traceback" not in server.log.read_text().lower()
    assert all(json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{"))
