"""The front door: checks before the application is entered, and its response."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import trio
from door_kit import CONTRACT, GOOD, Wire, echo, nothing_behind
from structlog.testing import capture_logs
from trio.testing import MockClock

from strata.executor.protocol.messages import BuildDescription
from strata.executor.protocol.pulls import Pull, PullBook
from strata.http.asgi import KNOWN_KEY
from strata.http.door.auth_failures import FailureLimit
from strata.http.door.body import DRAIN_BYTES
from strata.http.door.context import SCOPE_KEY
from strata.http.door.front_door import FrontDoor
from strata.outcomes import Reason, Refused
from strata.tenants.budgets.body_budget import BodyBudget
from strata.tenants.limits.token_bucket import Rate
from strata.tenants.stats.runtime import RuntimeStats

MIB = 1024 * 1024


def door(app=echo, cap: int = 1000) -> FrontDoor:
    return FrontDoor(
        app,
        contract=CONTRACT,
        registry=nothing_behind(),
        max_request_bytes=cap,
        request_id=lambda _headers: "request-1",
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


async def hang(budget: BodyBudget, clients: int, tenant: bytes, nursery: trio.Nursery) -> list[Wire]:
    """Begin requests whose bodies lack their last byte."""
    frontdoor = FrontDoor(
        echo,
        contract=CONTRACT,
        registry=nothing_behind(),
        max_request_bytes=MIB,
        request_id=lambda _: "r",
        bodies=budget,
    )
    headers = [*GOOD[:2], (b"x-tenant-id", tenant)]
    wires = [Wire(*[b"x" * 65536] * 16, whole=False) for _ in range(clients)]
    for wire in wires:
        wire.parts[-1] = wire.parts[-1][1:]
        scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": headers}
        nursery.start_soon(frontdoor, scope, wire.receive, wire.send)
    return wires


async def test_bodies_without_their_last_byte_stay_within_the_budget(autojump_clock: MockClock) -> None:
    """150 bodies of a megabyte hold no more than the budget, and another tenant's body is read meanwhile."""
    budget = BodyBudget(32 * MIB)
    async with trio.open_nursery() as nursery:
        wires = await hang(budget, 150, b"team-a", nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert 24 * MIB >= budget.used
        await hang(budget, 1, b"team-b", nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert MIB == budget.held("team-b")
        nursery.cancel_scope.deadline = trio.current_time() + 61
    assert 0 == budget.used
    statuses = [wire.status for wire in wires]
    assert 150 == statuses.count(408) + statuses.count(503)
    refused = next(wire for wire in wires if wire.status == 503)
    assert (b"5", b"close") == (refused.headers[b"retry-after"], refused.headers[b"connection"])
    assert "memory_budget_bytes" == json.loads(refused.body)["error"]


async def test_a_refused_body_that_arrives_keeps_its_connection() -> None:
    """A body for which there was no memory is drained, and the answer is a 503 of the request alone."""
    budget = BodyBudget(MIB)
    budget.add("team-b", "p", MIB)
    frontdoor = FrontDoor(
        echo,
        contract=CONTRACT,
        registry=nothing_behind(),
        max_request_bytes=MIB,
        request_id=lambda _: "r",
        bodies=budget,
    )
    wire = Wire(*[b"x" * 65536] * 4)
    scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": GOOD}
    await frontdoor(scope, wire.receive, wire.send)
    assert (503, MIB) == (wire.status, budget.used)
    assert b"connection" not in wire.headers


async def test_a_body_is_held_until_its_request_is_over() -> None:
    """The bytes of a body count while the application works with them."""
    budget = BodyBudget(4 * MIB)
    seen = []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        seen.append(budget.held("team-a", "ana@example.com"))
        await echo(scope, receive, send)

    frontdoor = FrontDoor(
        app,
        contract=CONTRACT,
        registry=nothing_behind(),
        max_request_bytes=MIB,
        request_id=lambda _: "r",
        bodies=budget,
    )
    wire = Wire(b"x" * 65536, b"y" * 65536)
    scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": GOOD}
    await frontdoor(scope, wire.receive, wire.send)
    assert ([131072], 0, b"x" * 65536 + b"y" * 65536) == (seen, budget.used, wire.body)


@pytest.mark.parametrize("path", ["/health", "/v1/x"])
async def test_nothing_is_kept_of_a_body_without_an_identity(path: str) -> None:
    """A client without an identity makes the server keep no byte: the body is read and dropped."""
    content: list[bytes] = []

    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        content.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    wire = await knock(Wire(b"a" * 500, b"b" * 100_000), app=app, headers=[], path=path)
    assert (200, [b""]) == (wire.status, content) if path == "/health" else 401 == wire.status
    assert 100_500 == wire.read


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


async def test_a_websocket_is_refused_as_a_request_where_no_route_speaks_it() -> None:
    """A handshake is checked as a request, and its refusal is a problem that ends the connection."""
    for headers, status in ((GOOD, 404), ([], 401)):
        sent: list[dict] = []
        messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]

        async def receive(messages: list[dict] = messages) -> dict:
            return messages.pop(0)

        async def send(message: dict, sent: list[dict] = sent) -> None:
            sent.append(message)

        await door()({"type": "websocket", "headers": headers, "path": "/"}, receive, send)

        assert ["websocket.http.response.start", "websocket.http.response.body"] == [
            message["type"] for message in sent
        ]
        assert (status, b"close") == (sent[0]["status"], dict(sent[0]["headers"])[b"connection"])
        assert status == json.loads(sent[1]["body"])["status"]


async def test_too_many_failures_of_one_address_are_429_and_touch_nobody_else(
    autojump_clock: MockClock,
) -> None:
    """Valid identities pass even from an address with too many failures, such as a proxy's."""
    guarded = FrontDoor(
        echo, contract=CONTRACT, registry=nothing_behind(), max_request_bytes=1000,
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


async def test_a_principal_that_stands_for_no_user_is_warned_of_once() -> None:
    """A proxy without a user would make all of its users one principal; the request itself is served."""
    headers = [(name, b"(null)" if name.lower() == b"x-strata-principal" else value) for name, value in GOOD]
    found = door()
    with capture_logs() as lines:
        for _ in range(2):
            wire = Wire(b"")
            scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": headers}
            await found(scope, wire.receive, wire.send)
            assert 200 == wire.status

    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [("(null)", "X-Strata-Principal")] == [(line["principal"], line["header"]) for line in warned]


@pytest.mark.parametrize(("signature", "known"), [("", [True]), ("x", [])])
async def test_a_signed_url_makes_its_connection_known(signature: str, known: list[bool]) -> None:
    """Else a flood of idle connections would close a long upload by one first; a wrong signature does not."""
    book = PullBook()
    pull = Pull("team-a", BuildDescription("b1", "double@v1", {}), (), 1, [].append)
    url = urlsplit(book.begin(pull, "http://x", 60)["finalize_url"])
    resources = SimpleNamespace(transforms=SimpleNamespace(pulls=book), accesses=None)
    registry = SimpleNamespace(resources=resources, runtime_stats=RuntimeStats())
    front = FrontDoor(
        echo, contract=CONTRACT, registry=registry, max_request_bytes=9, request_id=lambda _: "r"
    )
    noted: list[bool] = []
    wire = Wire(b"")
    scope = {
        "type": "http",
        "path": url.path,
        "method": "POST",
        "headers": [],
        "query_string": (url.query + signature).encode(),
        "state": {KNOWN_KEY: lambda: noted.append(True)},
    }
    await front(scope, wire.receive, wire.send)
    assert known == noted
