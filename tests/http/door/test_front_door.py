"""The front door: checks before the application is entered, and its response."""

import json
from collections.abc import Callable

import pytest
import trio
from door_kit import CONTRACT, GOOD, Wire, echo
from trio.testing import MockClock

from strata.http.door.auth_failures import FailureLimit
from strata.http.door.body import DRAIN_BYTES
from strata.http.door.context import SCOPE_KEY
from strata.http.door.front_door import FrontDoor
from strata.outcomes import Reason, Refused
from strata.tenants.limits.token_bucket import Rate


def door(app=echo, cap: int = 1000) -> FrontDoor:
    return FrontDoor(
        app, contract=CONTRACT, registry=None, max_request_bytes=cap, request_id=lambda _headers: "request-1"
    )


async def knock(wire: Wire, *, app=echo, headers=GOOD, path: str = "/v1/x", method: str = "POST") -> Wire:
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    await door(app)(scope, wire.receive, wire.send)
    return wire


async def test_a_good_request_passes_with_its_whole_body() -> None:
    """The application gets the body as one message, however it arrived."""
    wire = await knock(Wire(b"one ", b"two ", b"three"))

    assert (200, b"one two three") == (wire.status, wire.body)
    assert (b"request-1", b"team-a") == (wire.headers[b"x-request-id"], wire.headers[b"x-tenant-id"])


async def test_an_early_401_is_given_only_after_the_body_was_drained() -> None:
    """An undrained body could stall the next request, perhaps another user's, on the proxy's connection."""
    wire = await knock(Wire(*[b"x" * 65536] * 320), headers=[])  # 20 MB; Wire.send checks the order

    assert 401 == wire.status
    assert 320 * 65536 == wire.read
    assert b"connection" not in wire.headers


async def test_a_body_over_the_cap_is_413_and_is_never_echoed_back() -> None:
    """A 413's problem does not contain the body."""
    wire = await knock(Wire(*[b"secret!!" * 8192] * 10))

    assert 413 == wire.status
    assert b"secret" not in wire.body
    assert "request_too_large" == json.loads(wire.body)["error"]


async def test_a_body_without_end_is_given_up_and_its_connection_closed() -> None:
    """Draining stops at a cap of its own, and the connection is closed."""
    part = b"x" * (1024 * 1024)
    parts = [part] * (DRAIN_BYTES // len(part) + 1)
    wire = await knock(Wire(*parts, whole=False), headers=[])

    assert (401, b"close") == (wire.status, wire.headers[b"connection"])


async def test_a_body_that_never_arrives_is_408(autojump_clock: MockClock) -> None:
    """A body that does not arrive within a minute is a 408."""
    wire = await knock(Wire(b"some", whole=False))

    assert (408, b"close") == (wire.status, wire.headers[b"connection"])


async def test_a_client_that_leaves_during_its_body_reaches_nobody() -> None:
    """A request with half a body never reaches the application."""
    entered = []

    async def app(*_args: object) -> None:
        entered.append(1)

    wire = Wire()

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    wire.receive = receive  # type: ignore[method-assign]  # a stand-in
    await knock(wire, app=app)

    assert ([], []) == (entered, wire.sent)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_health_needs_no_identity(path: str) -> None:
    """Health probes come from the platform without identity headers, and are answered."""
    assert 200 == (await knock(Wire(), headers=[], path=path)).status


@pytest.mark.parametrize(
    "path", ["/", "/health/", "/healthz", "/docs", "/openapi.json", "/metrics", "/v1/materialize"]
)
async def test_everything_else_needs_one(path: str) -> None:
    """Every other path is a 401 without an identity."""
    assert 401 == (await knock(Wire(), headers=[], path=path)).status


@pytest.mark.parametrize("path", ["", "//v1/materialize", "*", "v1/me", "http://h", "http://h//v1/me"])
async def test_a_path_has_one_name(path: str) -> None:
    """//v1/x is not /v1/x, or rates and a proxy's rules could be evaded."""
    wire = await knock(Wire(b"x"), path=path)
    assert (404, "No such path") == (wire.status, json.loads(wire.body)["detail"])
    assert 401 == (await knock(Wire(), headers=[], path=path)).status


async def test_a_host_before_the_path_changes_nothing() -> None:
    """The absolute form of RFC 9112, section 3.2.2, is routed by its path."""
    assert 200 == (await knock(Wire(), path="http://h:80/v1/x")).status
    assert 200 == (await knock(Wire(), headers=[], path="HTTPS://h/health")).status
    assert 200 == (await knock(Wire(), path="/v1/names/http://h/x")).status


async def test_a_broken_body_is_cut_and_never_ended() -> None:
    """Without a last message the server closes the connection, so the client sees a torn stream."""

    async def app(scope: dict, _receive: Callable, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        scope[SCOPE_KEY].broken = Refused(Reason.FAILED, "lost")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    wire = await knock(Wire(), app=app)

    assert [True] == [message["more_body"] for message in wire.sent[1:]]


async def test_head_has_headers_and_no_body() -> None:
    """A response to HEAD has headers and no body, problems included."""
    assert b"" == (await knock(Wire(), headers=[], method="HEAD")).body
    assert b"" == (await knock(Wire(b"x"), method="HEAD")).body


async def test_the_servers_goodbye_does_not_interrupt_the_last_send() -> None:
    """A disconnect that Hypercorn reports within the last send does not cancel that send."""
    said = []

    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        await receive()

        async def listen() -> None:
            said.append((await receive())["type"])

        async with trio.open_nursery() as nursery:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    await knock(Wire(), app=app)

    assert [] == said


async def test_a_websocket_is_refused() -> None:
    """A WebSocket handshake is refused: no route speaks it."""
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    await door()({"type": "websocket", "headers": GOOD, "path": "/"}, Wire().receive, send)

    assert ["websocket.close"] == [message["type"] for message in sent]


async def test_too_many_failures_of_one_address_are_429_and_touch_nobody_else(
    autojump_clock: MockClock,
) -> None:
    """Valid identities pass even from an address with too many failures, such as a proxy's."""
    guarded = FrontDoor(
        echo, contract=CONTRACT, registry=None, max_request_bytes=1000,
        request_id=lambda _headers: "request-1", failures=FailureLimit(Rate(0.5, 3)),
    )  # fmt: skip

    async def ask(headers: list, address: str) -> Wire:
        wire = Wire(b"body")
        scope = {
            "type": "http",
            "path": "/v1/x",
            "method": "POST",
            "headers": headers,
            "client": (address, 1),
        }
        await guarded(scope, wire.receive, wire.send)
        return wire

    forged = [(b"x-strata-proxy-token", b"g" * 20), *GOOD[1:]]
    assert [401] * 3 + [429] * 2 == [(await ask(forged, "1.1.1.1")).status for _ in range(5)]
    refused = await ask([], "1.1.1.1")
    assert (429, b"2") == (refused.status, refused.headers[b"retry-after"])
    assert b'"auth_failure_burst";q=3' == refused.headers[b"ratelimit-policy"]
    assert 429 == (await ask([*forged, forged[0]], "1.1.1.1")).status  # a repeated header is a guess, too
    assert [401] * 9 == [
        (await ask(GOOD[:1], "1.1.1.1")).status for _ in range(9)
    ]  # the right token: no guess
    assert "too_many_failures" == json.loads(refused.body)["error"]
    assert 200 == (await ask(GOOD, "1.1.1.1")).status
    assert 401 == (await ask(forged, "2.2.2.2")).status
    await trio.sleep(2)
    assert 401 == (await ask(forged, "1.1.1.1")).status
