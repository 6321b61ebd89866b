"""Rights that are taken away end what is under way: reads are broken off, and builds without a reader end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs
import httpx
import pytest
import trio
from reading_here import read_here
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.acl import CompiledPolicy, Policy, Rule
from strata.config import Settings
from strata.tenants.builds import scan_pipeline
from strata.tenants.builds.state import Build

ROWS = 400_000
ALL = Policy(allow=(Rule("*", "tables/**"),))
EVE_ALONE = Policy(allow=(Rule("eve", "tables/**"),))
SOME_ROWS = Policy(
    allow=(Rule("eve", "tables/**"), Rule("ana", "tables/wh/db/events", rows="id < 5")),
)


async def first_bytes(answer: httpx.Response) -> tuple[bytes, Any]:
    parts = answer.aiter_bytes()
    return await anext(parts), parts


async def the_rest(parts: Any) -> int:
    return sum([len(part) async for part in parts])


@pytest.mark.parametrize("taken", [EVE_ALONE, SOME_ROWS], ids=["all", "some rows"])
@pytest.mark.parametrize("way", ["artifact", "stream"])
async def test_a_read_under_way_is_broken_off(
    settings: Settings, warehouse: Warehouse, taken: Policy, way: str
) -> None:
    """The connection of the principal without a right is cut before the end; another reader has all bytes."""
    warehouse.create(numbers(ROWS))
    async with (
        running(attrs.evolve(settings, acl_config=ALL)) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        path = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        whole = len((await ana.get(path)).content)
        kept = await eve.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))
        other = kept.json()["stream_url"]
        if way == "artifact":
            path = other
        async with ana.stream("GET", path) as mine, eve.stream("GET", other) as theirs:
            first, rest = await first_bytes(mine)
            assert 200 == mine.status_code
            begun, others = await first_bytes(theirs)
            server.service.take_rules(CompiledPolicy(taken))
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await the_rest(rest)
            assert len(first) < whole
            assert whole == len(begun) + await the_rest(others)
        assert 404 == (await ana.get(path)).status_code


@pytest.mark.parametrize("kept", [False, True])
async def test_a_build_that_no_caller_may_read_ends(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """It fails as of changed rights; while one of its callers may read the result, it goes on to its end."""
    warehouse.create(numbers(10))
    release, build = held(monkeypatch)
    async with (
        running(attrs.evolve(settings, acl_config=ALL)) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        try:
            made = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
            if kept:
                await eve.post("/v1/materialize", json=scan(warehouse.uri()))
            under_way = build(server)
            server.service.take_rules(CompiledPolicy(EVE_ALONE))
            if not kept:
                with trio.fail_after(20):
                    await under_way.done.wait()
        finally:
            release()
        with trio.fail_after(20):
            await under_way.done.wait()
        outcome = under_way.outcome
        assert kept == (getattr(outcome, "code", None) != "rights_changed")
        assert 404 == (await ana.get(made.json()["stream_url"])).status_code


async def test_rules_that_change_nothing_for_a_reader_let_it_read(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Rules that are read again, or removed, break off nothing that they permit."""
    warehouse.create(numbers(ROWS))
    async with (
        running(attrs.evolve(settings, acl_config=ALL)) as server,
        server.client(**identity("ana")) as ana,
    ):
        whole = len(
            (await ana.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})).content
        )
        url = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        async with ana.stream("GET", url) as answer:
            first, rest = await first_bytes(answer)
            server.service.take_rules(CompiledPolicy(ALL))
            server.service.authorizer.take(None)
            assert whole == len(first) + await the_rest(rest)
    assert not server.service.registry.resources.rights._under_way


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], None], Callable[[Running], Build]]:
    """Hold every build at its first rows; returns what lets them go on, and what finds the only one."""
    gate, real = threading.Event(), scan_pipeline.read_slice

    def read(*group: Any) -> Any:
        gate.wait(30)
        return real(*group)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", read)

    def only(server: Running) -> Build:
        found = server.service.registry.find("team-a")
        assert found is not None
        assert found.actor is not None
        [build] = found.actor.opened_materializer.running.values()
        return build

    return gate.set, only
