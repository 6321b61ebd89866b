"""The short path of some routes answers as the application does."""

import json
from functools import partial

import pyarrow as pa
import pytest
import trio
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, scan

from strata.http.routes import HOT
from strata.http.routes.app import create_app
from strata.tenants.lifecycle.registry import Registry

OWN = {"date", "x-request-id", "server-timing"}
THROUGH_THE_APP = {"params": {"download": "false"}}  # a query is the application's


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 200),
        ({"mode": "artifact"}, 200),
        ({"mode": "sideways"}, 400),
        ({"unknown": 1}, 400),
        ({"inputs": 7}, 422),
        ({"inputs": ["bench:no.such"]}, 404),
        ({"name": " "}, 400),
    ],
)
async def test_materialize_answers_the_same_at_the_door_and_behind_it(
    server: Running, warehouse: Warehouse, body: dict, status: int
) -> None:
    """Headers, their order, and bytes are equal."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        answers = [
            await client.post(
                "/v1/materialize", json=scan(warehouse.uri()) | body, **more, headers={"X-Request-ID": "r"}
            )
            for more in ({}, THROUGH_THE_APP)
        ]
    assert [status, status] == [answer.status_code for answer in answers]
    at_the_door, behind = (
        [pair for pair in answer.headers.items() if pair[0] not in OWN] for answer in answers
    )
    assert behind == at_the_door
    assert answers[1].content == answers[0].content


async def test_results_answer_the_same_at_the_door_and_behind_it(
    server: Running, warehouse: Warehouse
) -> None:
    """A finished result, a missing one, and a result as the direct answer are equal."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        made = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        url = made.json()["stream_url"]
        for path in (url, url.replace("/v/1/", "/v/9/"), "/v1/streams/none"):
            first, second = [
                await client.get(path, headers={"X-Request-ID": "r"}, **more)
                for more in ({}, THROUGH_THE_APP)
            ]
            assert second.status_code == first.status_code
            assert second.content == first.content
            pairs = [
                {pair for pair in answer.headers.items() if pair[0] not in OWN} for answer in (first, second)
            ]
            assert pairs[1] == pairs[0]
        direct = [
            await client.post(
                "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}, **more
            )
            for more in ({}, THROUGH_THE_APP)
        ]
        assert direct[1].content == direct[0].content
        assert direct[0].content == (await client.get(url)).content


async def test_ranges_and_validators_are_honoured(server: Running, warehouse: Warehouse) -> None:
    """The application answers ranges and validators."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        whole = await client.get(url)
        assert 206 == (part := await client.get(url, headers={"Range": "bytes=8-15"})).status_code
        assert whole.content[8:16] == part.content
        assert 304 == (await client.get(url, headers={"If-None-Match": whole.headers["etag"]})).status_code
        head = await client.head(url)
        assert (200, b"", str(len(whole.content))) == (
            head.status_code,
            head.content,
            head.headers["content-length"],
        )


@pytest.mark.parametrize("query", [b"", b"?download=false"])
async def test_http_1_0_gets_whole_results_with_their_length(
    server: Running, warehouse: Warehouse, query: bytes
) -> None:
    """HTTP/1.0 cannot tell a truncated stream from a complete one, so it gets complete results."""
    warehouse.create(numbers(10))
    head = b"POST /v1/materialize%b HTTP/1.0\r\n" % query
    for name, value in (identity() | {"Accept": ARROW, "Content-Type": "application/json"}).items():
        head += f"{name}: {value}\r\n".encode()
    body = json.dumps(scan(warehouse.uri())).encode()
    stream = await trio.open_tcp_stream("127.0.0.1", int(server.url.rpartition(":")[2]))
    with trio.fail_after(30):
        await stream.send_all(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        answer = b"".join([part async for part in stream])
    fields, _, result = answer.partition(b"\r\n\r\n")
    assert fields.startswith(b"HTTP/1.1 200")
    assert b"\r\ncontent-length: %d\r\n" % len(result) in fields.lower()
    assert 10 == pa.ipc.open_stream(result).read_all().num_rows


async def test_a_bug_is_answered_as_one(
    server: Running, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    """A crash is answered 500, and the next request on the connection is served."""
    warehouse.create(numbers(10))

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    async with server.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "ask", broken)
            answer = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        assert (500, "internal") == (answer.status_code, answer.json()["error"])
        assert "a bug" not in answer.text
        assert 200 == (await client.post("/v1/materialize", json=scan(warehouse.uri()))).status_code


async def test_nobody_works_on_for_a_client_that_left(
    server: Running, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    """A waiting message is withdrawn when its client disconnects."""
    warehouse.create(numbers(10))
    asked, given_up = trio.Event(), trio.Event()

    async def slow(*_arguments: object) -> None:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            given_up.set()

    monkeypatch.setattr(Registry, "ask", slow)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, server.client() as client:
            nursery.start_soon(partial(client.post, "/v1/materialize", json=scan(warehouse.uri())))
            await asked.wait()
            nursery.cancel_scope.cancel()
        await given_up.wait()


def test_every_hot_route_is_entered_for_the_paths_the_application_has_for_it() -> None:
    """So the same request gets the same handler at the door and behind it."""
    app = create_app(personal=False)
    rules = app.url_map.bind("localhost")
    paths = ("/v1/materialize", "/v1/streams/s_1", "/v1/artifacts/a-b/v/3/data")
    for route, path in zip(HOT, paths, strict=True):
        scope = {"method": route.method, "path": path, "query_string": b"", "headers": []}
        endpoint, arguments = rules.match(path, method=route.method)
        assert route.handler is app.view_functions[endpoint].__wrapped__
        assert {name: str(part) for name, part in arguments.items()} == route.parts(scope)


async def test_another_name_of_a_path_reaches_nothing(server: Running, warehouse: Warehouse) -> None:
    """An alternative spelling of a path is 404 in both."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        for path in ("//v1/materialize", "/%2Fv1/materialize", "/v1//materialize", "/v1/materialize/"):
            answer = await client.post(f"{server.url}{path}", json=scan(warehouse.uri()))
            assert 404 == answer.status_code, path


async def test_an_encoded_slash_is_no_slash_of_a_route(server: Running, warehouse: Warehouse) -> None:
    """It names no other route, and is a slash in a name, which may have some."""
    warehouse.create(numbers(10))
    async with server.client(**identity(scopes="admin:*")) as client:
        for _ in range(2):  # the second one finds the result, once it is committed
            await fetch(client, scan(warehouse.uri(), name="prod/report"))
        for path in ("/v1%2Fme", "/v1/cache%2Fstats", "/v1/artifacts%2fstats", "/%2Fv1/me", "/v1/me%2F"):
            assert 404 == (await client.get(path)).status_code, path
        for path in ("/v1/names/prod%2Freport", "/v1/names/prod/report"):
            assert 200 == (await client.get(path)).status_code, path
        named = "/v1/artifacts/names/prod%2Freport"
        assert "prod/report" == (await client.get(f"{named}/status")).json()["name"]
        for path in (f"{named}%2Fstatus", "/v1/names/prod%252Freport", "/v1/admin/tenants/team-a%2Flimits"):
            assert 404 == (await client.get(path)).status_code, path
        made = (await client.get("/v1/names/prod/report")).json()["artifact_uri"]
        artifact, version = made.removeprefix("strata://artifact/").split("@v=")
        assert 404 == (await client.get(f"/v1/artifacts/{artifact}%2Fv/{version}")).status_code
        assert 404 == (await client.get(f"/v1/artifacts/{artifact}/v/{version}%2Fdata")).status_code
