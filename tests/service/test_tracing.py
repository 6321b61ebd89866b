"""Requests as traces: one tree for each, no value in it, nothing with tracing off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import httpx
import pytest
import trio
from log_watch import MARK
from service_kit import TOKEN, Warehouse, fetch, identity, numbers, scan
from structlog.testing import capture_logs
from trace_kit import PARENT, PROXY, TRACE, Seen, Traced, orphans, traced

from strata.config import Settings
from strata.http.routes import ROUTES
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server import open_service

PATH = "name-that-a-user-gave"


@attrs.frozen
class Server:
    """A traced service that listens."""

    url: str
    traced: Traced

    def client(self, *, parent: str | None = PARENT, **who: str) -> httpx.AsyncClient:
        headers = identity(**who) | ({} if parent is None else {"traceparent": parent})
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)

    async def seen(self, *names: str, after: int = 0) -> list[Seen]:
        """Return the spans once those of these names have ended: some end after the answer."""
        with trio.fail_after(60):
            while not {*names} <= {one.name for one in self.traced.seen()[after:]}:  # noqa: ASYNC110  # spans have no event
                await trio.sleep(0.01)
        return self.traced.seen()


@asynccontextmanager
async def traced_server(settings: Settings) -> AsyncIterator[Server]:
    """Serve with tracing."""
    routes = [(route.method, route.pattern, route.path) for route in ROUTES]
    stop = trio.Event()
    with traced(routes) as found:
        async with open_service(settings, tracing=found.opened) as service, trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(serve, service.app, [Bind()], stop=stop.wait, grace=1))
            yield Server(url, found)
            stop.set()


@pytest.fixture
async def server(settings: Settings, warehouse: Warehouse) -> AsyncIterator[Server]:
    warehouse.create(numbers(100))
    async with traced_server(settings) as found:
        yield found


def under(spans: list[Seen], name: str) -> list[str]:
    """Return the names from a span up to the root of its tree."""
    by_id = {one.id: one for one in spans}
    found, way = next((one for one in spans if one.name == name), None), []
    while found is not None:
        way.append(found.name)
        found = by_id.get(found.above)
    return way


async def test_a_miss_is_one_tree_from_the_proxys_span_down(server: Server) -> None:
    """Admission, the actor, plan, slot, quanta and the store; the build goes on under the request that began it."""
    async with server.client() as client:
        assert 100 == (await fetch(client, scan("wh:db.events"))).num_rows
    spans = await server.seen("build", "GET /v1/streams/<stream_id>")
    assert [] == orphans(spans)
    assert {TRACE} == {one.trace for one in spans}
    roots = {one.name for one in spans if one.above == PROXY}
    assert {"POST /v1/materialize", "GET /v1/streams/<stream_id>"} == roots
    top = ["answer", "ask", "POST /v1/materialize"]
    assert ["build", *top] == under(spans, "build")
    for name in ("plan", "slot", "quantum"):
        assert ["build", *top] == under(spans, name)[1:] or ["plan", "build", *top] == under(spans, name)[
            1:
        ], name
    assert ["admission", "POST /v1/materialize"] == under(spans, "admission")
    build = next(one for one in spans if one.name == "build")
    assert "ready" == build.attributes["strata.outcome"]


async def test_a_hit_has_a_small_tree(server: Server) -> None:
    """The request and what it asks the actor: no build."""
    async with server.client(parent=None) as client:
        await fetch(client, scan("wh:db.events"))
        await server.seen("build", "GET /v1/streams/<stream_id>")
        before = len(server.traced.seen())
        assert (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()["hit"]
    seen = await server.seen("POST /v1/materialize", after=before)
    [asked] = [one for one in seen[before:] if one.name == "POST /v1/materialize"]
    spans = [one for one in seen if one.trace == asked.trace]  # the first one's build may still leave some
    assert [] == orphans(spans)
    assert "build" not in {one.name for one in spans}


async def test_the_requests_line_names_its_trace(server: Server, settings: Settings) -> None:
    """So that an operator goes from one to the other; the span has the request's id."""
    with capture_logs() as lines:
        async with server.client() as client:
            answer = await client.get("/v1/me")
            [root] = [one for one in await server.seen("GET /v1/me") if one.name == "GET /v1/me"]
    [line] = [one for one in lines if one["event"] == "request"]
    assert TRACE == line["trace_id"]
    assert answer.headers["x-request-id"] == root.attributes["strata.request_id"]
    assert ("team-a", 200) == (root.attributes["strata.tenant"], root.attributes["http.response.status_code"])


async def test_a_request_over_its_rate_makes_no_span(settings: Settings, warehouse: Warehouse) -> None:
    """Who is refused fills no queue of spans; a principal within its rate is traced as before."""
    warehouse.create(numbers(1))
    limited = attrs.evolve(settings, rate_limit_client_rps=0.01)
    async with traced_server(limited) as server:
        async with server.client() as client:
            answers = [(await client.get("/v1/me")).status_code for _ in range(5)]
        async with server.client(principal="other") as client:
            answers.append((await client.get("/v1/me")).status_code)
        assert {200, 429} == {*answers}
        assert 200 == answers[-1]
        with trio.fail_after(60):
            asked: list[Seen] = []
            while len(asked) < answers.count(200):  # the last one's span ends after its answer
                asked = [one for one in await server.seen("GET /v1/me") if one.above == PROXY]
                await trio.lowlevel.checkpoint()
        assert answers.count(200) == len(asked)
        assert {200} == {one.attributes["http.response.status_code"] for one in asked}


async def test_no_value_is_in_a_span(server: Server) -> None:
    """No filter, name, header, path or row: not of a request that works, and not of one that fails."""
    secret = f"{MARK}-7"
    filtered = scan("wh:db.events", params={"filters": [{"column": "name", "op": "=", "value": secret}]})
    async with server.client() as client:
        assert 1 == (await fetch(client, filtered)).num_rows
        await client.get(f"/v1/names/{PATH}")  # the log may have a path
        await client.get(f"/v1/{PATH}", params={"q": secret}, headers={"X-Other": secret})
        wrong = {"inputs": [secret], "transform": {"executor": secret, "params": {"sql": secret}}}
        await client.post("/v1/materialize", json=wrong)
    spans = await server.seen("build", "POST /v1/materialize", "GET")
    text = json.dumps([attrs.asdict(one) for one in spans])
    for word in (MARK, PATH, TOKEN, "ana", "db.events", "warehouse"):
        assert word not in text, word


async def test_a_stranger_and_a_probe_have_no_span(server: Server) -> None:
    """Nobody fills the queue who was not let in."""
    async with httpx.AsyncClient(base_url=server.url, headers={"traceparent": PARENT}) as stranger:
        assert 401 == (await stranger.get("/v1/me")).status_code
        assert 200 == (await stranger.get("/health")).status_code
    async with server.client() as client:
        await client.get("/v1/me")
    roots = [one.name for one in await server.seen("GET /v1/me") if one.above in ("", PROXY)]
    assert ["GET /v1/me"] == roots


async def test_tenants_with_one_trace_id_have_two_traces(server: Server) -> None:
    """What the second one does is not in the first one's trace, spans of its actor and builds included."""
    async with server.client() as first, server.client(tenant="team-b") as second:
        await fetch(first, scan("wh:db.events"))
        await server.seen("build", "GET /v1/streams/<stream_id>")
        before = len(server.traced.seen())
        await fetch(second, scan("wh:db.events"))
        await first.get("/v1/me")
        await server.seen("build", "GET /v1/streams/<stream_id>", "GET /v1/me", after=before)
    spans = server.traced.seen()
    tenant = {one.trace: set() for one in spans}
    for one in spans:
        if "strata.tenant" in one.attributes:
            tenant[one.trace].add(one.attributes["strata.tenant"])
    assert {"team-a"} == tenant[TRACE]
    assert {"team-b"} == set.union(*(names for trace, names in tenant.items() if trace != TRACE))
    assert [] == orphans(spans)


OFF = """
import sys, trio, strata.cli.main
from strata.config import Settings
from strata.server import open_service, run
from strata.tracing.opening import opened_tracing
async def main():
    async with opened_tracing("strata", enabled=False) as tracing:
        async with open_service(Settings(artifact_dir=sys.argv[1], cache_dir=sys.argv[2]), tracing=tracing):
            print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "google"))))
trio.run(main)
"""


def test_nothing_of_opentelemetry_is_imported_with_tracing_off(tmp_path) -> None:
    """It would be a third of a second of every start."""
    command = [sys.executable, "-c", OFF, str(tmp_path / "a"), str(tmp_path / "c")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ.copy(), check=False
    )
    assert "[]\n" == done.stdout, done.stderr
