"""The shipped proxy configurations keep the trusted-proxy contract for any client input."""

from __future__ import annotations

import json
import socket

import pytest

CONTRACT = {
    "x-strata-proxy-token": "the-token-of-this-test",
    "x-strata-principal": "ada@example.com",
    "x-strata-scopes": "notebook:read",
    "x-tenant-id": "team-a",
}

FORGED = [
    "X-Strata-Principal: root",
    "x-strata-principal: root",
    "X_Strata_Principal: root",
    "X-Strata-Scopes: admin:*",
    "X-Tenant-ID: team-b",
    "X-Strata-Tenant: team-b",
    "X_Tenant_ID: team-b",
    "X-Strata-Proxy-Token: guessed-token-of-length",
]


def request(*headers: str, method: str = "GET", path: str = "/v1/artifacts", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: strata.example.com", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return json.loads(body)


@pytest.mark.parametrize("config", ["nginx.conf", "service-mode/nginx.conf"])
def test_nginx_accepts_every_shipped_configuration(nginx_test, config: str) -> None:
    """``nginx -t`` reports neither an error nor a warning."""
    done = nginx_test(config)
    assert 0 == done.returncode, done.stderr
    assert "[warn]" not in done.stderr


def test_strata_gets_what_the_authentication_service_says(nginx, recorder, auth) -> None:
    """Strata gets the service's identity, each header once, with the token."""
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    answer = proxy.send(8080, request("Cookie: session=1"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    (seen,) = recorder.requests
    assert {name: [value] for name, value in CONTRACT.items()} == {name: seen.all(name) for name in CONTRACT}
    assert [] == seen.all("x-strata-tenant")
    assert ["session=1"] == auth.requests[0].all("cookie")


@pytest.mark.parametrize("header", FORGED)
def test_identity_headers_of_the_client_are_overwritten(nginx, recorder, auth, header: str) -> None:
    """No spelling of an identity header reaches Strata from a client."""
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    proxy.send(8080, request(header, header))
    (seen,) = recorder.requests
    assert {name: [value] for name, value in CONTRACT.items()} == {name: seen.all(name) for name in CONTRACT}
    assert [] == seen.all("x-strata-tenant")
    assert [] == [name for name in seen.names() if "_" in name]


@pytest.mark.parametrize(
    "name", ["X-Strata-Principal", "X-Strata-Proxy-Token, X-Strata-Scopes", "close, X-Tenant-ID"]
)
def test_connection_header_strips_no_identity(nginx, recorder, auth, name: str) -> None:
    """A client's ``Connection: X-Strata-Principal`` does not remove the identity header."""
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    proxy.send(8080, request(f"Connection: {name}"))
    (seen,) = recorder.requests
    assert {name: [value] for name, value in CONTRACT.items()} == {name: seen.all(name) for name in CONTRACT}
    assert [] == seen.all("connection")


def test_a_tenant_the_service_leaves_out_is_not_the_clients(nginx, recorder, auth) -> None:
    """Without a tenant from the service no tenant header is sent, so Strata refuses the request."""
    auth.answer_headers = ("X-Auth-Request-Email: ada@example.com",)
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    proxy.send(8080, request("X-Tenant-ID: team-b", "X-Strata-Scopes: admin:*"))
    (seen,) = recorder.requests
    assert ["ada@example.com"] == seen.all("x-strata-principal")
    assert [] == seen.all("x-tenant-id") + seen.all("x-strata-tenant") + seen.all("x-strata-scopes")


def test_who_is_not_signed_in_never_reaches_strata(nginx, recorder, auth) -> None:
    """nginx answers the service's refusal with a problem in Strata's form."""
    auth.status = "401 Unauthorized"
    proxy = nginx("nginx.conf", {8765: recorder.port, 4180: auth.port})
    answer = proxy.send(8080, request("X-Strata-Principal: root"))
    assert 401 == problem(answer)["status"]
    assert [] == recorder.requests


def test_a_body_over_the_cap_is_refused_as_a_problem(nginx, recorder) -> None:
    """nginx answers 413 with a problem in Strata's form."""
    proxy = nginx("service-mode/nginx.conf", {8765: recorder.port})
    head = request("Content-Length: 2000000", method="POST", path="/v1/materialize")
    assert 413 == problem(proxy.send(8865, head))["status"]
    assert [] == recorder.requests


def test_a_server_that_is_down_is_503_with_retry_after(nginx) -> None:
    """While Strata restarts, nginx answers 503 with Retry-After and a problem."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        answer = nginx("service-mode/nginx.conf", {8765: deaf.getsockname()[1]}).send(8865, request())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 2" in answer.lower()
    assert "Strata does not answer." == problem(answer)["detail"]


@pytest.mark.parametrize(
    ("port", "principal", "scopes"),
    [
        (8865, "demo-user", "notebook:read notebook:write notebook:execute"),
        (8866, "demo-admin", "admin:* notebook:*"),
    ],
)
def test_the_demo_injects_the_product_pages_identities(
    nginx, recorder, port: int, principal: str, scopes: str
) -> None:
    """Each port has its own principal in the tenant demo-team, whatever the client claims."""
    proxy = nginx("service-mode/nginx.conf", {8765: recorder.port})
    proxy.send(port, request(*FORGED))
    (seen,) = recorder.requests
    assert ([principal], [scopes], ["demo-team"]) == (
        seen.all("x-strata-principal"),
        seen.all("x-strata-scopes"),
        seen.all("x-tenant-id"),
    )


def test_connections_to_strata_are_kept(nginx, recorder) -> None:
    """Requests of several clients share a connection; no ``Connection: close`` is sent."""
    proxy = nginx("service-mode/nginx.conf", {8765: recorder.port})
    for _ in range(5):
        proxy.send(8865, request("Connection: close"))
    assert 5 == len(recorder.requests)
    assert 1 == recorder.connections


@pytest.mark.parametrize(("sent", "kept"), [("trace-1", True), ("two words", False), ("x" * 200, False)])
def test_request_ids_are_the_callers_when_fit(nginx, recorder, sent: str, kept: bool) -> None:  # noqa: FBT001  # parametrized
    """nginx and Strata log one request id: the caller's, if it is fit for a log."""
    proxy = nginx("service-mode/nginx.conf", {8765: recorder.port})
    proxy.send(8865, request(f"X-Request-ID: {sent}"))
    (found,) = recorder.requests[0].all("x-request-id")
    assert kept == (found == sent)
    assert found
