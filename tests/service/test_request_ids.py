"""A request's id is in its answer, in its problem, and on every log line of the request."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pytest
import structlog
import trio
from log_watch import MARK
from reading_here import read_here
from service_kit import TOKEN, Running, Warehouse, crashing_actor, identity, numbers, running, scan

from strata.config import Settings
from strata.http.routes.app import create_app
from strata.observability.logs import OURS, configure
from strata.tables import read_slice
from strata.tenants.messages import GetName
from strata.tenants.results.read import Reader
from strata.work import pool


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Capture log lines at DEBUG."""
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    kept = root.handlers[:], root.level, ours.level
    out = io.StringIO()
    configure("DEBUG", "json", out)
    yield out
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    ours.setLevel(kept[2])
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict]:
    """Return the captured lines, and forget them."""
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return [json.loads(line) for line in text.splitlines()]


class Caller:
    """Send requests with distinct identities and ids, and check the answers' ids."""

    def __init__(self, client: httpx.AsyncClient, out: io.StringIO) -> None:
        self._client = client
        self._out = out
        self.ids: list[str] = []
        self.statuses: set[int] = set()

    async def __call__(self, method: str, path: str, expected: int, **options) -> httpx.Response:
        headers = identity("ana", scopes=f"admin:* notebook:* {MARK}:scope") | options.pop("headers", {})
        request_id = f"request-{len(self.ids)}"
        self.ids.append(request_id)
        answer = await self._client.request(
            method, path, headers={"X-Request-ID": request_id} | headers, **options
        )
        assert expected == answer.status_code, (method, path, answer.text)
        self.statuses.add(expected)
        assert [request_id] == answer.headers.get_list("x-request-id")
        if expected >= 400 and "HEAD" != method and "health" not in path:
            assert "application/problem+json" == answer.headers["content-type"]
            assert request_id == answer.json()["request_id"]
        with trio.fail_after(5):
            while '"event": "request"' not in self._out.getvalue():
                await trio.lowlevel.checkpoint()  # the request's own line comes after its answer
        found = lines(self._out)
        assert {request_id} == {line.get("request_id") for line in found}, found
        assert 1 == sum("request" == line["event"] for line in found)
        return answer


@attrs.define
class Scene:
    server: Running
    call: Caller
    out: io.StringIO


@pytest.fixture
async def scene(settings: Settings, warehouse: Warehouse, out: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "HUNG_SECONDS", 60.0)  # a busy machine is no disk that hangs, which has a line
    warehouse.create(numbers(100))
    small = attrs.evolve(settings, max_request_bytes=2048, log_level="DEBUG")
    async with running(small) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield Scene(server, Caller(client, out), out)


DIRECT_WRITES = {
    ("delete", "/v1/artifacts/{artifact_id}/v/{version}"),
    ("delete", "/v1/names/{name}"),
    ("post", "/v1/names"),
    ("put", "/v1/artifacts"),
    ("put", "/v1/names/{name}/aliases/{alias}"),
    ("delete", "/v1/names/{name}/aliases/{alias}"),
    ("put", "/v1/artifacts/{artifact_id}/v/{version}/tags"),
    ("delete", "/v1/artifacts/{artifact_id}/v/{version}/tags/{key}"),
    ("post", "/v1/artifacts/{artifact_id}/v/{version}/pin"),
    ("delete", "/v1/artifacts/{artifact_id}/v/{version}/pin"),
}
"""Those that service mode has, without a body, if it is configured so; here it is not."""


SIGNED = {
    ("get", "/v1/artifacts/download"),
    ("post", "/v1/artifacts/upload"),
    ("post", "/v1/builds/{build_id}/log"),
    ("post", "/v1/builds/{build_id}/finalize"),
}
"""Those that a signed URL permits, which these are not."""


INCOMPLETE = {
    "/v1/registry/artifacts",
    "/v1/notebooks/{notebook}/diff",
    "/v1/notebooks/{notebook}/session/events",
    "/v1/notebooks/{notebook}/session/locks/{cell}",
    "/v1/notebooks/{notebook}/session/output",
    "/v1/tables/describe",
    "/v1/tables/history",
    "/v1/tables/refs",
    "/v1/tables/snapshots",
}
"""Those that must be given a parameter of the query."""


def empty(path: str) -> str:
    return path.format(
        stream_id="x",
        build_id="x",
        artifact_id="x",
        version=1,
        name="x",
        key="x",
        alias="x",
        tenant="team-a",
        notebook="x",
        cell="x",
        member="x",
        run="x",
        schedule="x",
        worker="x",
        provenance_hash="x",
    )


async def test_every_route_has_the_id_in_its_answer_and_on_its_lines(scene: Scene) -> None:
    """Every route of the description, with minimal parameters, and three others have the id."""
    app = create_app(personal=False)
    async with app.app_context():
        paths = app.extensions["QUART_SCHEMA"].openapi_provider.schema()["paths"]
    for path, methods in sorted(paths.items()):
        for method, operation in methods.items():
            expected = (
                403
                if (method, path) in DIRECT_WRITES | SIGNED
                else 404
                if "{worker}" in path
                else 422
                if "requestBody" in operation or "/v1/notebook-imports" == path  # a file of any type
                else 400
                if path in INCOMPLETE
                else 404
                if "{" in path and "{tenant}" not in path
                else 409  # there is no file of rules to be read again
                if "/v1/admin/acl/reload" == path
                else 200
            )
            await scene.call(method.upper(), empty(path), expected)
        await scene.call("TRACE", empty(path), 405)
    for path in ("/openapi.json", "/docs"):
        await scene.call("GET", path, 200)
    await scene.call("GET", "/nowhere", 404)


async def test_every_status_has_the_id_in_its_answer_and_on_its_lines(
    scene: Scene, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every status has the id, also early refusals, lines of threads, and failures."""
    call, uri = scene.call, warehouse.uri()
    made = (await call("POST", "/v1/materialize", 200, json=scan(uri, mode="artifact"))).json()
    while "ready" != (await call("GET", f"/v1/builds/{made['build_id']}", 200)).json()["state"]:
        pass
    hit = (await call("POST", "/v1/materialize", 200, json=scan(uri))).json()
    whole = await call("GET", hit["stream_url"], 200)
    await call("HEAD", hit["stream_url"], 200)
    await call("GET", hit["stream_url"], 206, headers={"Range": "bytes=0-9"})
    await call("GET", hit["stream_url"], 304, headers={"If-None-Match": whole.headers["etag"]})
    await call("GET", hit["stream_url"], 416, headers={"Range": "bytes=99999999-"})
    await call("GET", "/v1/artifacts?limit=0", 400)
    await call("GET", "/v1/artifacts", 400, headers={"X_Strata_Principal": f"{MARK}"})
    await call("GET", "/v1/artifacts", 401, headers={"X-Strata-Proxy-Token": f"{MARK}-{TOKEN}"})
    await call(
        "POST", "/v1/materialize", 403, json={"inputs": [uri], "transform": {"executor": f"{MARK}@v1"}}
    )
    await call("POST", "/v1/materialize", 404, json=scan(f"wh:{MARK}.table"))
    await call("POST", "/v1/materialize", 413, content=MARK.encode() * 1000)
    await call("POST", "/v1/materialize", 415, content=f'{{"{MARK}'.encode())
    await call("GET", hit["stream_url"], 412, headers={"If-Match": f'"{MARK}"'})
    typed = {"Content-Type": "application/json"}
    await call("POST", "/v1/materialize", 422, content=f'{{"{MARK}'.encode(), headers=typed)
    await call("POST", "/v1/materialize", 403, json=scan(uri), headers={"Origin": f"https://{MARK}.example"})

    warehouse.create(numbers(10), "db.lost")
    for path in Path(warehouse.path, "db", "lost").rglob("*.parquet"):
        path.unlink()
    at_once = {"Accept": "application/vnd.apache.arrow.stream"}
    await call("POST", "/v1/materialize", 500, json=scan(warehouse.uri("db.lost")), headers=at_once)

    def crash(*_arguments: object) -> None:
        raise ValueError(MARK)

    monkeypatch.setattr("strata.http.routes.builds.iso", crash)
    await call("GET", f"/v1/builds/{made['build_id']}", 500)
    scene.server.service.registry.draining = True
    await call("GET", "/v1/artifacts", 503)
    assert {200, 206, 304, 400, 401, 403, 404, 412, 413, 415, 416, 422, 500, 503} == call.statuses


async def test_what_a_build_logs_carries_the_id_of_the_request_that_began_it(
    scene: Scene, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build's line from a thread, during a later request, has the id of the request that began the build."""
    await scene.call("GET", "/v1/names", 200)
    for path in Path(warehouse.path).rglob("*.parquet"):
        whole = path.read_bytes()
        path.write_bytes(b"PAR1" + bytes(150) + whole[154:])  # pages destroyed, the footer as it was
    go = threading.Event()

    def read_later(group, *many):
        assert go.wait(10)
        return read_slice(group, *many)

    read_here(monkeypatch)
    monkeypatch.setattr("strata.tenants.builds.scan_pipeline.read_slice", read_later)
    client = scene.call._client
    first = {"X-Request-ID": "the-one-that-began-it"} | identity()
    made = (
        await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"), headers=first)
    ).json()
    go.set()
    other = {"X-Request-ID": "another"} | identity()
    with trio.fail_after(10):
        while "failed" != (await client.get(f"/v1/builds/{made['build_id']}", headers=other)).json()["state"]:
            await trio.lowlevel.checkpoint()

    def told() -> list[str]:
        nonlocal found
        found = [line for line in lines(scene.out) if "request" != line["event"]]
        return [line["event"] for line in found if "debug" != line["level"]]

    found: list[dict] = []
    with trio.fail_after(10):
        while ["file_unreadable", "table unreadable"] != told():  # the last comes after the build's state
            await trio.lowlevel.checkpoint()
    assert {"the-one-that-began-it"} == {line["request_id"] for line in found}


async def test_a_question_that_crashes_names_its_request(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in a question is 500, its traceback is logged once under its request's id, and the actor goes on."""

    async def crash(_reader: Reader, _question: GetName) -> None:
        raise ValueError(MARK)

    monkeypatch.setattr(Reader, "get_name", crash)
    await scene.call("GET", "/v1/names", 200)
    answer = await scene.call._client.get("/v1/names/x", headers={"X-Request-ID": "the-unlucky"} | identity())

    assert (500, "internal", "the-unlucky") == (
        answer.status_code,
        answer.json()["error"],
        answer.json()["request_id"],
    )
    assert "ValueError" not in answer.text
    found = [line for line in lines(scene.out) if "exception" in line]
    assert [("question crashed", "the-unlucky")] == [(line["event"], line["request_id"]) for line in found]
    assert "ValueError" in found[0]["exception"]
    assert 200 == (await scene.call._client.get("/v1/names", headers=identity())).status_code


async def test_a_crash_names_the_requests_that_it_failed(scene: Scene) -> None:
    """The supervisor's line has the ids of all requests that waited, and none of its own."""
    await scene.call("GET", "/v1/names", 200)
    with crashing_actor("team-a"):
        answer = await scene.call._client.get(
            "/v1/names/x", headers={"X-Request-ID": "the-unlucky"} | identity()
        )

    assert 503 == answer.status_code
    found = {line["event"]: line for line in lines(scene.out)}
    assert ["the-unlucky"] == found["tenant crashed"]["request_ids"]
    assert "request_id" not in found["tenant crashed"]
    assert "AttributeError" in found["tenant crashed"]["exception"]
