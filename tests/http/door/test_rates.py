"""Rate limits at the door refuse before the application is entered, and only the tenant concerned."""

import json
from typing import Any

import attrs
import pytest
import trio
from door_kit import CONTRACT, GOOD, Wire, echo, nothing_behind
from trio.testing import MockClock

from strata.http.door.front_door import FrontDoor
from strata.http.door.tarpit import Tarpit
from strata.tenants import TenantLimits
from strata.tenants.limits.rates import RateBook

FEW = TenantLimits(requests_per_second=0, principal_requests_per_second=2, principal_scans_per_second=1)


def headers(tenant: str = "team-a", principal: str = "ana") -> list[tuple[bytes, bytes]]:
    return [GOOD[0], (b"x-strata-principal", principal.encode()), (b"x-tenant-id", tenant.encode())]


def door(limits: TenantLimits = FEW, places: int = 0, app: Any = echo) -> FrontDoor:
    return FrontDoor(
        app, contract=CONTRACT, registry=nothing_behind(), max_request_bytes=10_000, request_id=lambda _headers: "request-1",
        rates=RateBook(lambda _tenant: limits), tarpit=Tarpit(places),
    )  # fmt: skip


async def knock(
    at: FrontDoor, *, path: str = "/v1/x", method: str = "GET", body: bytes = b"", **who: str
) -> Wire:
    wire = Wire(body)
    await at(
        {"type": "http", "path": path, "method": method, "headers": headers(**who)}, wire.receive, wire.send
    )
    return wire


async def test_the_request_beyond_the_rate_never_reaches_the_application(autojump_clock: MockClock) -> None:
    """A 429 names limit and value, its body is drained, and Retry-After suffices."""
    at = door()
    assert [200] * 4 == [(await knock(at)).status for _ in range(4)]

    refused = await knock(at, method="POST", body=b"x" * 5000)  # Wire.send checks that it was drained
    problem = json.loads(refused.body)
    assert (429, 5000, b"1") == (refused.status, refused.read, refused.headers[b"retry-after"])
    assert "rate_limit_client_rps" == problem["error"]
    assert {"name": "rate_limit_client_rps", "value": 2.0} == problem["limit"]
    assert "Retry after 1 s." in problem["detail"]
    assert b'"rate_limit_client_rps";q=4;w=2' == refused.headers[b"ratelimit-policy"]
    assert b'"rate_limit_client_rps";r=0;t=1' == refused.headers[b"ratelimit"]
    await trio.sleep(1)
    assert 200 == (await knock(at)).status


@pytest.mark.parametrize("last", ["/v1/materialize", "/v1/cache/warm"])
async def test_a_scan_has_a_rate_of_its_own(last: str) -> None:
    """rate_limit_scan_rps counts requests to materialize and to warm the cache, and no others."""
    at = door()
    paths = ("/v1/materialize", "http://h/v1/materialize", last)
    seen = [(await knock(at, path=path, method="POST")).status for path in paths]
    assert [200, 200, 429] == seen
    assert 200 == (await knock(at, path="/v1/materialize/other", method="POST")).status


async def test_probes_are_never_limited() -> None:
    """Health probes have no rate limit."""
    at = door()
    for path in ("/health", "/health/ready"):
        assert [200] * 50 == [(await knock(at, path=path)).status for _ in range(50)]


async def test_others_are_let_in_while_one_floods(autojump_clock: MockClock) -> None:
    """Another principal and another tenant are admitted at once while one floods."""
    at = door(places=1024)

    async def flood() -> None:
        while True:
            await knock(at)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(flood)
        await trio.sleep(10)
        for who in ({"tenant": "team-b"}, {"principal": "bob"}):
            for _ in range(4):
                began = trio.current_time()
                assert 200 == (await knock(at, **who)).status
                assert began == trio.current_time()
        nursery.cancel_scope.cancel()


async def test_a_flood_is_slowed_down_to_one_a_second_and_connection(autojump_clock: MockClock) -> None:
    """16 connections in a closed loop get about one refusal a second each."""
    at, seen = door(places=1024), []

    async def flood() -> None:
        while True:
            seen.append((await knock(at)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(flood)
        await trio.sleep(30)
        before = len(seen)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(seen) - before <= 16 * 10 + 2 * 10 + 4
    assert seen[before:].count(200) >= 15, "what the limit lets through is let through"
    assert 0 == at.tarpit.held


async def test_held_refusals_are_bounded_and_come_back(autojump_clock: MockClock) -> None:
    """A tenant holds at most half of the tarpit's places; a client that disconnects frees its place."""
    at, most = door(places=20), 0
    for _ in range(204):
        await knock(at)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(knock, at)
        await trio.testing.wait_all_tasks_blocked()
        most = at.tarpit.held
        nursery.cancel_scope.cancel()
    assert (10, 0) == (most, at.tarpit.held)


async def test_bytes_sent_are_counted_and_paced(autojump_clock: MockClock) -> None:
    """Bytes of responses count, those of refusals do not; a running stream is paced and not refused."""
    limits = attrs.evolve(FEW, principal_requests_per_second=0, principal_bytes_per_second=100)
    at = door(limits)
    began = trio.current_time()
    assert [200, 200] == [(await knock(at, method="POST", body=b"x" * 100)).status for _ in range(2)]
    assert began == trio.current_time()
    assert 200 == (await knock(at, method="POST", body=b"x" * 300)).status
    assert 2.0 == trio.current_time() - began
    refused = await knock(at)
    assert (429, b"1") == (refused.status, refused.headers[b"retry-after"])
    await trio.sleep(1)
    assert 200 == (await knock(at)).status


async def test_who_returns_after_the_exact_time_is_served(autojump_clock: MockClock) -> None:
    """The body has the exact seconds; a client that numbers its attempts keeps its place against new requests."""
    at = door()
    while (refused := await knock(at)).status == 200:
        pass
    exact = json.loads(refused.body)["retry_after_seconds"]
    assert exact == pytest.approx(0.5, abs=0.002)
    await trio.sleep(exact)

    async def attempt(number: bytes) -> int:
        wire = Wire()
        pairs = [*headers(), (b"x-strata-attempt", number)]
        await at(
            {"type": "http", "path": "/v1/x", "method": "GET", "headers": pairs}, wire.receive, wire.send
        )
        return wire.status

    assert [429, 200, 429] == [await attempt(number) for number in (b"1", b"2", b"2")]
    assert [429] * 3 == [await attempt(number) for number in (b"x", b"", b"9" * 50)]
