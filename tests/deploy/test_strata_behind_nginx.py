"""The shipped proxy and the real server together."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio
from log_watch import watch
from socket_kit import RejectedError, socket

STACK = Path(__file__).parents[2] / "deploy" / "service-mode"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def strata(tmp_path_factory: pytest.TempPathFactory, free_port) -> Iterator[int]:
    """Run ``strata serve`` on the stack's configuration, with other directories and another port."""
    tmp_path = tmp_path_factory.mktemp("strata")
    for name in ("artifacts", "cache", "demo/warehouse"):
        (tmp_path / "data" / name).mkdir(parents=True)
    port = free_port()
    text = (STACK / "pyproject.toml").read_text()
    text = text.replace("/data/", f"{tmp_path}/data/").replace("port = 8765", f"port = {port}")
    (tmp_path / "pyproject.toml").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "strata", "serve"],
        cwd=tmp_path,
        # A test sends 150 requests at once, which the rate limits would refuse.
        env=environment
        | {"PYTHONSAFEPATH": "1", "STRATA_LOG_LEVEL": "DEBUG", "STRATA_RATE_LIMIT_ENABLED": "false"},
        stderr=subprocess.STDOUT,
        stdout=(tmp_path / "strata.log").open("wb"),
    )
    try:
        _wait_ready(port, process, tmp_path / "strata.log")
        yield port
    finally:
        process.terminate()
        process.wait(30)
        watch.note((tmp_path / "strata.log").read_text(errors="replace"))


def _wait_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            if (
                _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "GET", "/health/ready")[0]
                == 200
            ):
                return
        except OSError:
            threading.Event().wait(0.05)
    pytest.fail(f"the server did not become ready:\n{log.read_text(errors='replace')[-4000:]}")


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_the_two_ports_are_two_callers(nginx, strata: int) -> None:
    """Only the admin's port may clear the cache, and clients need no token at either port."""
    proxy = nginx("service-mode/nginx.conf", {8765: strata})
    answers = {}
    for port in (8865, 8866):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.ports[port], timeout=20)
        listed, _ = _ask(connection, "GET", "/v1/artifacts")
        cleared, _ = _ask(connection, "POST", "/v1/cache/clear")
        answers[port] = (listed, cleared)
        connection.close()
    assert {8865: (200, 403), 8866: (200, 200)} == answers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/artifacts", 405),
        ("POST", "/v1/cache/clear", 403),
        ("POST", "/v1/materialize", 422),
    ],
)
def test_an_early_answer_never_stalls_the_next_request(
    nginx, strata: int, method: str, path: str, status: int
) -> None:
    """After an answer that needed no body, the connection to Strata serves another user's request."""
    proxy = nginx("service-mode/nginx.conf", {8765: strata})
    body = b"x" * 300_000
    first = http.client.HTTPConnection("127.0.0.1", proxy.ports[8865], timeout=20)
    second = http.client.HTTPConnection("127.0.0.1", proxy.ports[8866], timeout=20)
    for _ in range(150):
        assert status == _ask(first, method, path, body)[0]
        assert 200 == _ask(second, "GET", "/v1/artifacts")[0]
    first.close()
    second.close()


def test_a_notebooks_socket_passes_the_proxy(nginx, strata: int) -> None:
    """Two users at two ports meet in one session, with the ports' identities; another path upgrades nothing."""
    proxy = nginx("service-mode/nginx.conf", {8765: strata})
    one, two = (f"http://127.0.0.1:{proxy.ports[port]}" for port in (8865, 8866))

    async def meet() -> None:
        body = {"title": "N", "cells": [{"id": "c", "source": "x = 1"}]}
        async with httpx.AsyncClient(base_url=one) as client:
            answer = await client.post("/v1/notebooks", json=body)
        assert 201 == answer.status_code, answer.text
        path = f"/v1/notebooks/{answer.json()['name']}/session"
        forged = {"X-Strata-Principal": "root", "X-Strata-Scopes": "admin:*", "Origin": one}
        async with socket(one, path, **forged) as user, socket(two, path) as admin:
            assert "demo-user" == (await user.event("hello"))["principal"]
            assert "demo-admin" == (await user.event("joined", principal="demo-admin"))["principal"]
            edit = {"op": "replace", "id": "c", "source": "x = 2"}
            assert 200 == (await user.ask("edit", revision=1, edits=[edit]))["status"]
            assert (2, ["c"]) == ((event := await admin.event("edited"))["revision"], event["cells"])
        for where, headers, status in ((path, {"Origin": "https://evil.example"}, 403), ("/v1/me", {}, 200)):
            with pytest.raises(RejectedError) as caught:
                async with socket(one, where, **headers):
                    pass
            assert status == caught.value.status

    trio.run(meet)


def test_requests_with_identities_of_their_own_get_those_of_the_port(nginx, strata: int) -> None:
    """A client that claims a tenant, a principal or a scope is answered as the port's caller."""
    proxy = nginx("service-mode/nginx.conf", {8765: strata})
    connection = http.client.HTTPConnection("127.0.0.1", proxy.ports[8865], timeout=20)
    forged = {"X-Tenant-ID": "other", "X-Strata-Tenant": "other", "X-Strata-Scopes": "admin:*"}
    connection.request("POST", "/v1/cache/clear", headers=forged)
    response = connection.getresponse()
    response.read()
    connection.close()
    assert (403, "demo-team") == (response.status, response.headers["X-Tenant-ID"])
