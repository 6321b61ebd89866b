"""Builds start one after another, tenants in turn: forty at once are not forty times as slow."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.work import Tier

COLUMNS = ["id", "value", "name"]


@pytest.fixture
def uri(warehouse: Warehouse) -> str:
    warehouse.create(numbers(100))
    return warehouse.uri()


class Store:
    """A method of the metadata store whose first call waits for the gate."""

    def __init__(self, server: Running, monkeypatch: pytest.MonkeyPatch, method: str = "begin_build") -> None:
        self.authorizer = threading.Event()
        self.asked: list[str] = []
        store = server.service.registry.resources.metadata
        self._method = getattr(store, method)
        monkeypatch.setattr(store, method, self.call)

    def call(self, tenant: str, *what: object, **more: object) -> object:
        self.asked.append(tenant)
        if len(self.asked) == 1:
            assert self.authorizer.wait(60)
        return self._method(tenant, *what, **more)

    async def until(self, calls: int) -> None:
        with trio.fail_after(60):
            while len(self.asked) < calls:
                await trio.lowlevel.checkpoint()


@pytest.fixture
def opened() -> Iterator[list[Store]]:
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.authorizer.set()  # no thread outlives a test that failed


async def build(server: Running, tenant: str, uri: str, columns: list[str]) -> None:
    """Build a new result and read it."""
    async with server.client(**identity(tenant=tenant)) as client:
        table = await fetch(client, scan(uri, params={"columns": columns}))
    assert (100, columns) == (table.num_rows, table.column_names)


async def test_one_build_begins_at_a_time_and_a_crowd_behind_itself(
    settings: Settings, uri: str, opened: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tenant's build starts before four of five earlier ones of one tenant."""
    async with running(settings) as server, trio.open_nursery() as nursery:
        starts = server.service.registry.resources.starts
        starts.tokens, starts._patience = 1, 1e9
        opened.append(store := Store(server, monkeypatch))
        nursery.start_soon(build, server, "loud", uri, ["id"])
        await store.until(1)
        for columns in (["id", "value"], ["value", "id"], ["name"], ["name", "id"]):
            nursery.start_soon(build, server, "loud", uri, columns)
        with trio.fail_after(60):
            while starts.waiting < 4:
                await trio.lowlevel.checkpoint()
        nursery.start_soon(build, server, "quiet", uri, COLUMNS)
        with trio.fail_after(60):
            while starts.waiting < 5:
                await trio.lowlevel.checkpoint()
        assert ["loud"] == store.asked
        store.authorizer.set()
    assert "quiet" in store.asked[1:3]
    assert 6 == len(store.asked)
    assert (0, 0) == (starts.taken, starts.waiting)


async def test_storage_that_is_slow_holds_the_others_up_for_a_moment_alone(
    settings: Settings, uri: str, opened: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn of a build whose store does not answer passes to the next one."""
    async with running(settings) as server, trio.open_nursery() as nursery:
        server.service.registry.resources.starts.tokens = 1
        opened.append(store := Store(server, monkeypatch))
        nursery.start_soon(build, server, "slow", uri, ["id"])
        await store.until(1)
        with trio.fail_after(60):
            await build(server, "quick", uri, ["id"])
        assert ["slow", "quick"] == store.asked
        store.authorizer.set()


async def test_a_build_without_rows_has_begun_when_it_has_read_them(
    settings: Settings, uri: str, opened: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn ends before the commit, for a build without rows as for one with rows."""
    nothing = {"filters": [{"column": "id", "op": "<", "value": 0}]}
    async with running(settings) as server, trio.open_nursery() as nursery:
        starts = server.service.registry.resources.starts
        starts.tokens, starts._patience = 1, 1e9
        opened.append(store := Store(server, monkeypatch, "finish_build"))

        async def build_nothing() -> None:
            async with server.client(**identity(tenant="empty")) as client:
                assert 0 == (await fetch(client, scan(uri, params=nothing))).num_rows

        nursery.start_soon(build_nothing)
        await store.until(1)
        assert 0 == starts.taken
        with trio.fail_after(60):
            await build(server, "quick", uri, ["id"])
            await store.until(2)
        assert ["empty", "quick"] == store.asked
        store.authorizer.set()


async def test_who_waits_for_a_slot_does_not_hold_the_turn(settings: Settings, uri: str) -> None:
    """A build that waits for a slot or for memory gives its turn back."""
    async with running(settings) as server, trio.open_nursery() as nursery:
        registry = server.service.registry
        registry.resources.starts.tokens, registry.resources.starts._patience = 1, 1e9
        await build(server, "full", uri, ["name"])
        (tenant,) = registry.tenants()
        assert tenant.actor is not None
        assert tenant.actor.builder is not None
        slots = tenant.actor.builder.slots[Tier.INTERACTIVE]
        memory = registry.resources.memory
        for queue in (partial(slots.queue, "bob", slots.total), partial(memory.queue, "bob", memory.total)):
            with trio.fail_after(60):
                while slots.used + memory.used:  # of the build before, which ends a little after its rows
                    await trio.lowlevel.checkpoint()
            lease, done = queue(), trio.Event()
            assert lease.held

            async def ask(columns: list[str], done: trio.Event) -> None:
                await build(server, "full", uri, columns)
                done.set()

            nursery.start_soon(ask, ["id"] if queue.func == slots.queue else ["value"], done)
            with trio.fail_after(60):
                while not slots.waiting + memory.waiting:
                    await trio.lowlevel.checkpoint()
            assert 0 == registry.resources.starts.taken
            assert not done.is_set()
            lease.release()
            with trio.fail_after(60):
                await done.wait()
