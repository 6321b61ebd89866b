"""Storage, a database or a catalog of one tenant hangs for a minute: other tenants' answers take no time of it.

On the virtual clock, which stands still unless a test moves it: an answer that waits for nothing takes no time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from pyiceberg.catalog.sql import SqlCatalog
from remote_files import StoreIO
from rest_catalog import RestServer, rest_server
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, running, scan
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.artifacts import LocalBlobStore, SqlMetadataStore, tenant_prefix
from strata.config import Settings
from strata.tables import Catalogs
from strata.tables.files.confined import ConfinedFileIO
from strata.tenants.results import read

A, B = identity("ana", "team-a"), identity("bob", "team-b")
CROWD = 60
"""Requests of the tenant whose parts hang."""


@attrs.define(eq=False)
class Parts:
    """The server, and what it depends on.

    Attributes:
        server: The server.
        shared: A warehouse that answers.
        cold: A warehouse in a remote store, which may fall silent.
        store: That store.
        catalog: A catalog, which may fall silent.
        database: The metadata store's file.
        over: Set when all silence is over.
    """

    server: Running
    shared: Warehouse
    cold: Warehouse
    store: StoreIO
    catalog: RestServer
    database: Path
    over: threading.Event = attrs.field(factory=threading.Event)


@pytest.fixture
def cold(tmp_path: Path) -> Warehouse:
    path = tmp_path / "cold"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


@pytest.fixture
def catalog(warehouse: Warehouse) -> Iterator[RestServer]:
    with rest_server(warehouse.catalog) as found:
        yield found


@pytest.fixture
async def parts(  # noqa: PLR0917  # fixtures
    settings: Settings,
    warehouse: Warehouse,
    cold: Warehouse,
    catalog: RestServer,
    monkeypatch: pytest.MonkeyPatch,
    mock_clock: MockClock,
) -> AsyncIterator[Parts]:
    for place in (warehouse, cold):
        place.create(numbers(100))
    store, confined = StoreIO(), Catalogs._files_of

    def files_of(self: Catalogs, alias: str, location: str, properties: object) -> StoreIO | ConfinedFileIO:
        return store if alias == "cold" else confined(self, alias, location, properties)

    monkeypatch.setattr(Catalogs, "_files_of", files_of)
    changed = attrs.evolve(
        settings,
        warehouses={**settings.warehouses, "cold": str(cold.path)},
        catalogs={"prod": {"type": "rest", "uri": catalog.uri}},
    )
    async with running(changed) as server:
        database = Path(settings.artifact_dir) / "metadata.db"
        found = Parts(server, warehouse, cold, store, catalog, database)
        async with server.client(**A) as ana:
            for uri in ("cold:db.events", warehouse.uri()) * 2:  # the second time when the first is committed
                assert 100 == (await fetch(ana, scan(uri))).num_rows
        await others_need_no_time(found, 0, builds=True)
        yield found
        for event in (found.over, store.over, catalog.go):
            event.set()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the database's write lock, as a backup or another program that hangs does."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def silent_for_a(parts: Parts, real: Callable[..., object], where: int) -> Callable[..., object]:
    """Return ``real``, silent when the argument at ``where`` is the first tenant's id or prefix."""

    def call(*args: object, **kwargs: object) -> object:
        if args[where] in ("team-a", tenant_prefix("team-a")):
            parts.over.wait(100)
        return real(*args, **kwargs)

    return call


async def others_need_no_time(parts: Parts, number: int, *, builds: bool) -> None:
    """Let the other tenant ask for all kinds of things; the clock stands still.

    Args:
        parts: The server.
        number: Rows of a scan that is built anew.
        builds: Whether the store that all tenants write to answers.
    """
    before = trio.current_time()
    async with parts.server.client(**B) as bob:
        for path in (
            "/health",
            "/health/ready",
            "/v1/me",
            "/v1/names",
            "/v1/artifacts",
            "/v1/artifacts/stats",
        ):
            assert 200 == (await bob.get(path)).status_code, path
        where = [{"column": "id", "op": "<", "value": number if builds else 0}]
        for _ in range(2):
            wanted = scan(parts.shared.uri(), params={"filters": where})
            assert where[0]["value"] == (await fetch(bob, wanted)).num_rows
    assert before == trio.current_time()


Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


async def hang_for_a_minute(parts: Parts, clock: MockClock, ask: Ask, *, builds: bool = True) -> set[int]:
    """Ask ``CROWD`` times while something hangs; returns the statuses, once the deadlines are over."""
    statuses: list[int] = []
    async with trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            async with httpx.AsyncClient(
                base_url=parts.server.url, headers=A, timeout=None, verify=False
            ) as ana:
                statuses.append((await ask(ana, number)).status_code)

        for number in range(CROWD):
            nursery.start_soon(one, number)
        for number in range(1, 5):
            await wait_all_tasks_blocked(0.01)
            await others_need_no_time(parts, number, builds=builds)
            clock.jump(15)
        for _ in range(600):
            await wait_all_tasks_blocked(0.01)
            if len(statuses) == CROWD:
                break
            clock.jump(15)
        nursery.cancel_scope.cancel()
    assert CROWD == len(statuses)
    return set(statuses)


def materialize(uri: str, **more: object) -> Ask:
    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        where = [{"column": "id", "op": "<", "value": number + 200}]
        body = scan(uri, params={"filters": where}, **more)
        return await client.post("/v1/materialize", json=body, headers={"Accept": ARROW})

    return ask


async def test_hung_storage(parts: Parts, mock_clock: MockClock) -> None:
    """Data files in a remote store that does not answer."""
    parts.cold.catalog.load_table("db.events").append(numbers(1))
    parts.store.silent = (".parquet",)
    found = await hang_for_a_minute(parts, mock_clock, materialize("cold:db.events"))
    assert found <= {429, 503, 504}
    assert 0 == parts.server.service.registry.resources.pool.running


async def test_hung_manifests(parts: Parts, mock_clock: MockClock) -> None:
    """Manifests in a remote store that does not answer, which planning waits for."""
    parts.store.silent = (".avro",)
    parts.cold.catalog.load_table("db.events").append(numbers(1))
    found = await hang_for_a_minute(parts, mock_clock, materialize("cold:db.events"))
    assert found <= {429, 503, 504}


async def test_hung_metadata_files(parts: Parts, mock_clock: MockClock) -> None:
    """A table's metadata in a remote store that does not answer."""
    parts.store.silent = (".json",)
    parts.cold.catalog.load_table("db.events").append(numbers(1))
    assert {503} == await hang_for_a_minute(parts, mock_clock, materialize("cold:db.events"))


async def test_a_hung_catalog(parts: Parts, mock_clock: MockClock) -> None:
    """A catalog server that accepts and does not answer; the tables differ, so that no question is shared."""
    parts.catalog.go.clear()

    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        return await client.post("/v1/materialize", json=scan(f"prod:db.t{number}"))

    assert {503} == await hang_for_a_minute(parts, mock_clock, ask)


async def test_a_hung_blob_store(
    parts: Parts, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote store of results that does not answer for one tenant's: others' finished results are read."""
    object.__setattr__(parts.server.service.registry.resources, "remote_blobs", True)
    monkeypatch.setattr(read, "SMALL_BYTES", 0)
    wanted = scan(parts.shared.uri(), params={"columns": ["id"]})
    async with parts.server.client(**A) as ana:
        await fetch(ana, wanted)
        made = (await ana.post("/v1/materialize", json=wanted)).json()
    assert made["hit"]
    silent = silent_for_a(parts, LocalBlobStore.open_reader, 1)
    monkeypatch.setattr(LocalBlobStore, "open_reader", silent)
    assert {503} == await hang_for_a_minute(
        parts, mock_clock, lambda client, _: client.get(made["stream_url"])
    )


async def test_a_hung_query(parts: Parts, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of the metadata store that take for ever for one tenant."""
    monkeypatch.setattr(SqlMetadataStore, "list_names", silent_for_a(parts, SqlMetadataStore.list_names, 1))
    assert {503} == await hang_for_a_minute(parts, mock_clock, lambda client, _: client.get("/v1/names"))


async def test_a_locked_database(parts: Parts, mock_clock: MockClock) -> None:
    """Another program holds the write lock: named hits wait for it, and others' reads do not."""
    uri = parts.shared.uri()
    with locked(parts.database):

        async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
            return await client.post("/v1/materialize", json=scan(uri, name=f"n{number}"))

        assert {503} == await hang_for_a_minute(parts, mock_clock, ask, builds=False)
    await others_need_no_time(parts, 50, builds=True)


async def test_readiness_has_a_deadline_and_a_thread_of_its_own(
    parts: Parts, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent store makes the server not ready within two seconds, for any number of probes; then it is again."""
    probes = []

    def probe() -> bool:
        probes.append(1)
        return parts.over.wait(100)

    monkeypatch.setattr(parts.server.service.registry, "probe", probe)
    found: list[int] = []
    async with parts.server.client(**B) as bob, trio.open_nursery() as nursery:

        async def one() -> None:
            found.append((await bob.get("/health/ready")).status_code)

        for _ in range(20):
            nursery.start_soon(one)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)
    assert ([503] * 20, 1) == (found, len(probes))
    parts.over.set()
    health = parts.server.service.registry.resources.threads.health
    while not health.idle:
        await trio.lowlevel.checkpoint()
    async with parts.server.client(**B) as bob:
        assert 200 == (await bob.get("/health/ready")).status_code
