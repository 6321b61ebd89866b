"""What the shipped nginx answers itself, what it tells the authentication service, and whom it cannot be filled by."""

from __future__ import annotations

import json
import re
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strata.http.door.error_pages import POLICY, STYLE, wants_page

DEMO = "service-mode/nginx.conf"
SLOW_HEADS = 2200

CLAIMS = [
    "X-Real-IP: 10.0.0.1",
    "X-Forwarded-For: 10.0.0.1",
    "X-Forwarded-Host: intern.example.com",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Uri: /public",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-User: root",
    "X-Forwarded-Email: root@example.com",
    "X-Forwarded-Groups: admins",
    "X-Forwarded-Access-Token: abc",
    "X-Original-URI: /public",
    "X-Original-URL: /public",
    "X-Original-Method: OPTIONS",
    "X-Original-Forwarded-For: 10.0.0.1",
    "X-Auth-Request-Email: root@example.com",
    "Forwarded: for=10.0.0.1;host=intern",
    "True-Client-IP: 10.0.0.1",
]
"""Headers by which an authentication service may be told who asks for what."""

TOLD = {
    "host": "strata.example.com",
    "cookie": "session=1",
    "authorization": "Bearer abc",
    "x-real-ip": "127.0.0.1",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": "strata.example.com",
    "x-forwarded-proto": "http",
    "x-forwarded-uri": "/v1/artifacts?limit=1",
    "x-forwarded-method": "GET",
    "x-original-uri": "/v1/artifacts?limit=1",
    "x-original-method": "GET",
    "x-request-id": "trace-1",
}
"""All that the service is told."""


def request(*headers: str, line: str = "GET /v1/artifacts HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: strata.example.com", *headers, "", ""]).encode()


def refusal(answer: bytes) -> tuple[int, dict[str, str], dict]:
    """Return status, headers and problem of an answer, which agree with each other."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    problem = json.loads(body)
    assert "application/problem+json" == headers["content-type"]
    assert int(line.split()[1]) == problem["status"]
    assert headers["x-request-id"] == problem["request_id"]
    assert re.fullmatch(r"[!-~]{1,128}", problem["request_id"])
    assert "no-store" == headers["cache-control"]
    return problem["status"], headers, problem


@pytest.mark.parametrize(
    ("raw", "status", "title"),
    [
        (request("Host: other.example.com"), 400, "Bad Request"),
        (request(line="TRACE /v1/artifacts HTTP/1.1"), 405, "Method Not Allowed"),
        (request(line=f"GET /{'x' * 20_000} HTTP/1.1"), 414, "URI Too Long"),
        (request(f"X-Large: {'x' * 20_000}"), 431, "Request Header Fields Too Large"),
        (request("Content-Length: 99999999", line="POST /v1/x HTTP/1.1"), 413, "Content Too Large"),
        (request("Transfer-Encoding: gzip", line="POST /v1/x HTTP/1.1"), 501, "Not Implemented"),
        (request(line="GET /v1/artifacts HTTP/3.0"), 505, "HTTP Version Not Supported"),
    ],
    ids=["400", "405", "414", "431", "413", "501", "505"],
)
def test_every_error_of_nginx_is_a_problem(nginx, recorder, raw: bytes, status: int, title: str) -> None:
    """No answer of nginx to a program is a page of HTML, and each has a request id."""
    proxy = nginx(DEMO, {8765: recorder.port})
    found, _, problem = refusal(proxy.send(8865, raw))
    assert (status, title) == (found, problem["title"])
    assert problem["detail"]
    assert [] == recorder.requests


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("trace-1", True), ("01J;=?@[]{}|~", True), ('"}', False), ("a\\u0041", False), ("<b>", False), ("a>", False),
        ("a&lt", False), ("it's", False), ("x" * 200, False),
    ],
)  # fmt: skip
def test_a_refusal_has_the_callers_request_id_if_it_fits(nginx, recorder, sent: str, kept: bool) -> None:  # noqa: FBT001  # parametrized
    """A client's id cannot end the JSON text it is put into, nor be HTML in a page."""
    proxy = nginx(DEMO, {8765: recorder.port})
    raw = request(f"X-Request-ID: {sent}", "Content-Length: 99999999", line="POST /v1/x HTTP/1.1")
    _, headers, _ = refusal(proxy.send(8865, raw))
    assert kept == (sent == headers["x-request-id"])


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "429 Too Many Requests"])
def test_an_authentication_service_that_fails_is_503(nginx, recorder, auth, status: str) -> None:
    """Callers are told to try again, and nothing reaches Strata."""
    auth.status = status
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    found, headers, problem = refusal(proxy.send(8080, request()))
    assert (503, "2") == (found, headers["retry-after"])
    assert "authentication service" in problem["detail"]
    assert [] == recorder.requests


def test_an_authentication_service_that_has_crashed_is_503(nginx, recorder) -> None:
    """A refused connection to it is no page with 500."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        proxy = nginx("nginx.conf", {8765: recorder.port, 4180: deaf.getsockname()[1]})
        found, headers, _ = refusal(proxy.send(8080, request()))
    assert (503, "2") == (found, headers["retry-after"])
    assert [] == recorder.requests


def test_who_is_not_admitted_gets_a_problem(nginx, recorder, auth) -> None:
    """The service's 403 is one of nginx, as its 401 is."""
    auth.status = "403 Forbidden"
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    assert 403 == refusal(proxy.send(8080, request()))[0]
    assert [] == recorder.requests


BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def page(answer: bytes) -> tuple[int, dict[str, str], str]:
    """Return status, headers and text of a page, which may load and run nothing."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    text = body.decode()
    assert "text/html; charset=utf-8" == headers["content-type"]
    assert "no-store" == headers["cache-control"]
    assert POLICY == headers["content-security-policy"]
    assert f"<style>{STYLE}</style>" in text, "another style than the policy has the sum of"
    assert f"<code>{headers['x-request-id']}</code>" in text
    return int(line.split()[1]), headers, text


@pytest.fixture
def deaf() -> Iterator[int]:
    """Return a port where nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield found.getsockname()[1]


def test_a_server_that_is_down_is_a_page_for_a_browser(nginx, deaf: int) -> None:
    """With the request's id, and the way out."""
    status, headers, text = page(nginx(DEMO, {8765: deaf}).send(8865, request(BROWSER)))
    assert (503, "2") == (status, headers["retry-after"])
    assert "503 Service Unavailable</title>" in text
    assert "<h1>Strata does not answer.</h1>" in text
    assert '<a href="">Try again</a>' in text


def test_a_lost_authentication_service_is_a_page_for_a_browser(nginx, recorder, deaf: int) -> None:
    """It says that it is this service that does not answer."""
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: deaf})
    status, headers, text = page(proxy.send(8080, request(BROWSER)))
    assert (503, "2") == (status, headers["retry-after"])
    assert "The authentication service does not answer." in text
    assert [] == recorder.requests


def test_who_is_not_admitted_gets_a_page(nginx, recorder, auth) -> None:
    """Without a time to wait, which would not help."""
    auth.status = "403 Forbidden"
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    status, headers, text = page(proxy.send(8080, request(BROWSER)))
    assert 403 == status
    assert "retry-after" not in headers
    assert "<h1>The authentication service does not admit you.</h1>" in text


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html", True), ("application/json, TEXT/HTML ; q=0.5", True), ("text/html;q=0.05,*/*", True),
        ("*/*", False), ("text/html;q=0", False), ("text/html; q=0.000, */*", False), ("text/htmlx", False),
        ("application/x;a=text/html", False),
    ],
)  # fmt: skip
def test_who_names_html_gets_a_page(nginx, deaf: int, accept: str, is_page: bool) -> None:  # noqa: FBT001  # parametrized
    """As with Strata's own errors."""
    answer = nginx(DEMO, {8765: deaf}).send(8865, request(f"Accept: {accept}"))
    assert 503 == (page if is_page else refusal)(answer)[0]
    assert is_page == wants_page([(b"accept", accept.encode())])


def test_stratas_own_errors_are_passed_on(nginx, recorder) -> None:
    """An error of Strata keeps its body and its headers."""
    recorder.status = "503 Service Unavailable"
    recorder.answer_headers = ("Retry-After: 17",)
    answer = nginx(DEMO, {8765: recorder.port}).send(8865, request())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nok")
    assert b"retry-after: 17" in answer.lower()


def test_the_authentication_service_is_told_nothing_by_the_client(nginx, recorder, auth) -> None:
    """It gets the caller's credentials and what nginx knows; no header in which a client claims anything."""
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    credentials = ("Cookie: session=1", "Authorization: Bearer abc", "X-Request-ID: trace-1")
    line = "GET /v1/artifacts?limit=1 HTTP/1.1"
    proxy.send(8080, request(*CLAIMS, *credentials, *CLAIMS, line=line))
    (told,) = auth.requests
    assert TOLD == dict(told.headers)
    assert len(TOLD) == len(told.headers)


def test_the_clients_address_is_not_the_clients_to_say(nginx, recorder) -> None:
    """Strata gets the address that nginx sees, and no standardised claim of another."""
    nginx(DEMO, {8765: recorder.port}).send(8865, request(*CLAIMS))
    (seen,) = recorder.requests
    assert ["127.0.0.1"] == seen.all("x-forwarded-for") == seen.all("x-real-ip")
    assert [] == seen.all("forwarded")


@pytest.mark.slow
@pytest.mark.parametrize("config", ["nginx.conf", DEMO])
def test_thousands_of_slow_heads_keep_nobody_out(nginx, recorder, auth, config: str) -> None:
    """A stranger who holds 2,200 connections with half a head leaves room for everybody else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SLOW_HEADS:
        pytest.skip(f"{hard} descriptors are too few for {SLOW_HEADS} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SLOW_HEADS), hard))
    proxy = nginx(config, {8765: recorder.port, 4180: auth.port})
    port = 8080 if config == "nginx.conf" else 8865
    with ExitStack() as stack:
        for _ in range(SLOW_HEADS):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.ports[port]), 20))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        for _ in range(20):
            assert proxy.send(port, request()).startswith(b"HTTP/1.1 200 ")


def test_a_slow_head_is_cut_off(nginx_of, recorder, free_port) -> None:
    """A connection whose head does not come is closed; the shipped deadline is five seconds."""

    def sooner(tree: Path) -> None:
        path = tree / "strata_http.conf"
        text = path.read_text()
        assert "client_header_timeout 5s;" in text
        path.write_text(text.replace("client_header_timeout 5s;", "client_header_timeout 1s;"))
        main = tree / DEMO
        main.write_text(main.read_text().replace("listen 8865;", f"listen 127.0.0.1:{port};"))

    port = free_port()
    nginx_of(DEMO, {8765: recorder.port}, change=sooner, listening=port)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        try:
            got = slow.recv(65536)
        except ConnectionResetError:
            got = b""
    assert got == b"" or got.startswith(b"HTTP/1.1 408 ")


def test_one_address_has_a_bounded_number_of_requests(nginx_of, recorder, free_port) -> None:
    """A further request of an address that has its number is 429, as a problem with Retry-After."""

    def fewer(tree: Path) -> None:
        path = tree / "strata_http.conf"
        text = path.read_text()
        assert "limit_conn strata_clients 512;" in text
        path.write_text(text.replace("limit_conn strata_clients 512;", "limit_conn strata_clients 1;"))
        main = tree / DEMO
        main.write_text(main.read_text().replace("listen 8865;", f"listen 127.0.0.1:{port};"))

    port = free_port()
    proxy = nginx_of(DEMO, {8765: recorder.port}, change=fewer, listening=port)
    proxy.ports[port] = port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as first:
        # Its head is whole and its body is not, so it is a request that nginx works on.
        first.sendall(
            request("Content-Length: 10", "Expect: 100-continue", line="POST /v1/artifacts HTTP/1.1")
        )
        assert first.recv(100).startswith(b"HTTP/1.1 100 ")
        status, headers, _ = refusal(proxy.send(port, request()))
    assert (429, "1") == (status, headers["retry-after"])


def test_a_websocket_is_passed_on(nginx) -> None:
    """The upgrade reaches the server with the port's identity, and then bytes go both ways."""
    heads: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(65536)
            heads.append(head.lower())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            while got := connection.recv(100):
                connection.sendall(got.upper())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        proxy = nginx(DEMO, {8765: listener.getsockname()[1]})
        with socket.create_connection(("127.0.0.1", proxy.ports[8865]), timeout=20) as client:
            upgrade = (
                "Connection: Upgrade, X-Strata-Principal",
                "Upgrade: WebSocket",
                "X-Strata-Principal: root",
            )
            client.sendall(request(*upgrade, line="GET /v1/notebooks/ws/1 HTTP/1.1"))
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += client.recv(1)
            assert answer.startswith(b"HTTP/1.1 101 ")
            for word in (b"one", b"two"):
                client.sendall(word)
                assert word.upper() == client.recv(100)
        thread.join(20)
    assert b"\r\nupgrade: websocket\r\n" in heads[0]
    assert b"\r\nconnection: upgrade\r\n" in heads[0]
    assert 1 == heads[0].count(b"x-strata-principal: ")
    assert b"x-strata-principal: demo-user" in heads[0]


def test_another_upgrade_is_not_passed_on(nginx, recorder) -> None:
    """HTTP/2 in clear text would be a way around the proxy."""
    upgrade = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    nginx(DEMO, {8765: recorder.port}).send(8865, request(*upgrade))
    (seen,) = recorder.requests
    assert [] == seen.all("upgrade") + seen.all("connection")
