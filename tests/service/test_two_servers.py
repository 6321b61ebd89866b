"""Two servers on one PostgreSQL database and one directory of results."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import psycopg
import pyarrow as pa
import pytest
import trio
from postgres_kit import dsn, new_database, postgres, start, stop
from service_kit import (
    Process,
    Running,
    Warehouse,
    environment,
    fetch,
    identity,
    numbers,
    process,
    running,
    scan,
)

from strata.artifacts import ArtifactRecord, ArtifactState, SqlMetadataStore
from strata.artifacts.database.schema import artifacts
from strata.artifacts.metadata.rows import artifact_record
from strata.artifacts.metadata.usage import stored_bytes
from strata.artifacts.servers.contract import ServerStore
from strata.config import Settings
from strata.tenants.servers.rate_exchange import RateExchange

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(settings: Settings, postgresql: str, tmp_path: Path) -> tuple[Settings, Settings]:
    """Return the settings of two servers; each has its own cache."""
    shared = attrs.evolve(
        settings, artifact_metadata_dsn=dsn(new_database(postgresql)), artifact_lease_seconds=2
    )
    return shared, attrs.evolve(shared, cache_dir=str(tmp_path / "other-cache"))


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Have the first commit wait until the function is called."""
    may_commit, real, first = threading.Event(), SqlMetadataStore.finish_build, threading.Lock()

    def finish_build(self: SqlMetadataStore, *args: object, **kwargs: object) -> object:
        if first.acquire(blocking=False):
            may_commit.wait(60)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(SqlMetadataStore, "finish_build", finish_build)
    yield may_commit.set
    may_commit.set()


def builds(server: Running) -> list[tuple[str, str | None]]:
    """Return state and error code of all builds."""
    store = server.service.registry.resources.metadata
    with store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT state, error_code FROM builds ORDER BY created_at")
        return [tuple(row) for row in rows]


async def test_a_reader_of_one_server_follows_the_build_of_the_other(
    pair: tuple[Settings, Settings], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One build in the database, equal rows on both, the name that only the second asked for; another tenant has its own."""
    warehouse.create(numbers(1000))
    wanted = scan(warehouse.uri())
    with held(monkeypatch) as commit:
        async with (
            running(pair[0]) as one,
            running(pair[1]) as other,
            one.client() as ana,
            other.client() as bob,
        ):
            answer = (await ana.post("/v1/materialize", json=wanted)).json()
            followed = (await bob.post("/v1/materialize", json=wanted | {"name": "daily"})).json()
            assert answer["build_id"] == followed["build_id"]
            assert answer["artifact_uri"] == followed["artifact_uri"]
            tables: list[pa.Table] = []

            async def read() -> None:
                data = await bob.get(followed["stream_url"])
                assert 200 == data.status_code, data.text
                tables.append(pa.ipc.open_stream(data.content).read_all())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                neighbour = await fetch_as(other, "team-b", wanted)
                assert not tables
                commit()
            first = await fetch(ana, wanted)
            assert first.equals(tables[0])
            assert first.equals(neighbour)
            assert [("ready", None)] * 2 == builds(one)
            assert ["daily"] == [name["name"] for name in (await ana.get("/v1/names")).json()["names"]]
            assert (await bob.post("/v1/materialize", json=wanted)).json()["hit"]


async def test_the_build_of_the_other_server_is_described_waited_for_and_not_ended(
    pair: tuple[Settings, Settings], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state and progress are told on both; its bytes are read on the other as soon as they are committed."""
    warehouse.create(numbers(1000))
    wanted = scan(warehouse.uri())
    monkeypatch.setattr("strata.tenants.servers.following.PROGRESS_SECONDS", 0.01)
    looked, real = threading.Event(), SqlMetadataStore.get_artifact

    def get_artifact(self: SqlMetadataStore, *version: Any) -> ArtifactRecord | None:
        record = real(self, *version)
        if record is not None and record.state is ArtifactState.BUILDING:
            looked.set()
        return record

    with held(monkeypatch) as commit:
        async with (
            running(pair[0]) as one,
            running(pair[1]) as other,
            one.client() as ana,
            other.client() as bob,
        ):
            answer = (await ana.post("/v1/materialize", json=wanted)).json()
            whole = (await ana.get(answer["stream_url"])).content
            build = f"/v1/builds/{answer['build_id']}"
            data = f"/v1/artifacts/{answer['artifact_uri'].rpartition('/')[2].replace('@v=', '/v/')}/data"

            async def told() -> bool:
                found = (await bob.get(build)).json()
                assert "building" == found["state"]
                assert found["progress"] in (None, 1.0)
                return found["progress"] == 1.0

            await until(told)
            followed = (await bob.post("/v1/materialize", json=wanted | {"mode": "artifact"})).json()
            assert answer["build_id"] == followed["build_id"]
            assert await told()
            cancelled = (await bob.post(f"{build}/cancel")).json()
            assert (False, "building") == (cancelled["cancelled"], cancelled["state"])
            assert await told()
            monkeypatch.setattr(SqlMetadataStore, "get_artifact", get_artifact)
            read: list[httpx.Response] = []

            async def wait_for_it() -> None:
                read.append(await bob.get(data))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_it)
                await trio.to_thread.run_sync(looked.wait, 60)
                commit()
            assert (200, whole) == (read[0].status_code, read[0].content)
            ended = (await bob.get(build)).json()
            assert ("ready", 1.0, None) == (ended["state"], ended["progress"], ended["error_code"])


async def test_servers_see_each_other(pair: tuple[Settings, Settings]) -> None:
    """With digests of settings and rules, for operators only; one that has stopped is listed no more."""
    path, root = "/v1/admin/servers", identity("root", scopes="admin:*")
    async with running(pair[0]) as one, one.client(**root) as ana:
        async with running(pair[1]) as other, other.client() as bob:
            assert 403 == (await bob.get(path)).status_code
            [first, second] = (await ana.get(path)).json()["servers"]
            assert (True, False) == (first["this_server"], second["this_server"])
            assert first["config_version"] != second["config_version"], "another cache_dir"
            assert first["version"] == second["version"]
        [alone] = (await ana.get(path)).json()["servers"]
        assert first["server_id"] == alone["server_id"]
        assert "a-secret" not in str(alone)


async def fetch_as(server: Running, tenant: str, wanted: dict) -> pa.Table:
    async with server.client(**identity("eve", tenant)) as client:
        return await fetch(client, wanted)


async def test_a_removed_result_is_forgotten_by_the_other_server(
    pair: tuple[Settings, Settings], warehouse: Warehouse
) -> None:
    """The other server remembered it as ready; it builds it again instead of failing for long."""
    warehouse.create(numbers(100))
    wanted = scan(warehouse.uri())
    writers = [attrs.evolve(one, service_writes_enabled=True) for one in pair]
    root = identity("root", scopes="artifacts:write admin:*")
    async with (
        running(writers[0]) as one,
        running(writers[1]) as other,
        one.client(**root) as ana,
        other.client() as bob,
    ):
        first = await fetch(ana, wanted)
        while not (answer := (await bob.post("/v1/materialize", json=wanted)).json())["hit"]:
            await fetch(bob, wanted)
        record = f"/v1/artifacts/{answer['artifact_uri'].rpartition('/')[2].replace('@v=', '/v/')}"
        assert (await ana.delete(record)).status_code in (200, 204)
        with trio.fail_after(60):
            while (await bob.post("/v1/materialize", json=wanted)).json()["hit"]:
                pass  # until its next heartbeat
        assert first.equals(await fetch(bob, wanted))


@pytest.mark.parametrize(
    "name", ["rate_limit_global_rps", "rate_limit_client_rps", "rate_limit_bytes_per_day"]
)
async def test_a_rate_holds_for_both_servers(
    pair: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What one server admitted is refused by the other one once it was told; a neighbour's rate is its own."""
    monkeypatch.setattr("strata.tenants.servers.rate_exchange.EXCHANGE_SECONDS", float("inf"))
    limited = [attrs.evolve(one, **{name: 0.02 if name.endswith("rps") else 100}) for one in pair]
    async with running(limited[0]) as one, running(limited[1]) as other:
        exchanges = [RateExchange(_servers(server), server.service.registry.rates) for server in (one, other)]
        for exchange in exchanges:
            await exchange.exchange()
        async with one.client() as ana, other.client() as bob:
            assert 200 == (await ana.get("/v1/me")).status_code
            for exchange in exchanges:
                await exchange.exchange()
            refused = await bob.get("/v1/me")
            assert (429, name) == (refused.status_code, refused.json()["error"])
            assert int(refused.headers["Retry-After"]) >= 1
            assert 200 == (await bob.get("/v1/me", headers=identity("eve", "team-b"))).status_code


@pytest.mark.parametrize("quota", [{"artifact_max_bytes": 250_000}, {"artifact_max_count": 5}])
async def test_a_storage_quota_holds_for_both_servers(
    pair: tuple[Settings, Settings], warehouse: Warehouse, quota: dict[str, int]
) -> None:
    """Builds at a time on both exceed it by what one of the two writes; then both refuse, and a neighbour builds."""
    warehouse.create(numbers(2_000))
    limited = [attrs.evolve(one, service_writes_enabled=True, **quota) for one in pair]
    root = identity("root", scopes="artifacts:write")
    async with (
        running(limited[0]) as one,
        running(limited[1]) as other,
        one.client(**root) as ana,
        other.client(**root) as bob,
    ):
        made: list[str] = []
        refused: set[httpx.AsyncClient] = set()

        async def build(client: httpx.AsyncClient, number: int) -> None:
            wanted = scan(warehouse.uri(), params={"limit": 2_000 - number})
            answer = await client.post("/v1/materialize", json=wanted)
            if answer.status_code == 200:
                try:
                    answer = await client.get(answer.json()["stream_url"])
                except httpx.RemoteProtocolError:  # it grew over the quota
                    refused.add(client)
                    return
            if answer.status_code == 200:
                made.append(answer.headers["X-Strata-Artifact-Uri"])
            else:
                assert (503, "storage_quota") == (answer.status_code, answer.json()["error"])
                refused.add(client)

        for first in range(0, 20, 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(build, ana, first)
                nursery.start_soon(build, bob, first + 1)
        usage = one.service.registry.resources.retention.usage("team-a")
        sizes = [path.stat().st_size for path in pair[0].artifact_root.glob("blobs/*/*/*.arrow")]
        store = one.service.registry.resources.metadata
        with store.reading() as connection:
            rows = connection.execute(artifacts.select().where(artifacts.c.tenant == "team-a")).all()
        kept = [
            stored_bytes(artifact_record(row)) for row in rows
        ]  # what a failed build left in the table, too
        assert (len(kept), sum(kept)) == (usage.versions, usage.stored_bytes)
        assert len(made) == len(sizes)
        if "artifact_max_count" in quota:
            assert 5 <= usage.versions <= 5 + 1
        else:
            assert 250_000 - max(sizes) < usage.stored_bytes
            assert sum(sizes) <= usage.stored_bytes <= 250_000 + max(sizes)
        assert {ana, bob} == refused
        assert 2_000 == (await fetch_as(other, "team-b", scan(warehouse.uri()))).num_rows
        for uri in made[:3]:  # removed by one server, there is room on the other
            path = f"/v1/artifacts/{uri.rpartition('/')[2].replace('@v=', '/v/')}"
            assert (await ana.delete(path)).status_code in (200, 204)
        refused.clear()
        await build(bob, 100)
        assert not refused


def _servers(server: Running) -> ServerStore:
    found = server.service.registry.resources.servers
    assert found is not None
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until an asynchronous condition holds."""
    with trio.fail_after(120):
        while not await condition():  # noqa: ASYNC110  # another process or thread makes it so
            await trio.sleep(0.05)


async def answered(client: httpx.AsyncClient, wanted: dict) -> bool:
    return (await client.post("/v1/materialize", json=wanted)).status_code == 200


async def ready(server: Running) -> bool:
    return ("ready", None) in builds(server)


async def test_a_database_that_was_stopped_ends_no_build_of_either_server(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are 503 meanwhile, with the way out; then both servers go on, and neither took over from the other."""
    warehouse.create(numbers(1000))
    with postgres() as database, held(monkeypatch) as commit:
        one_settings = attrs.evolve(settings, artifact_metadata_dsn=dsn(database), artifact_lease_seconds=2)
        other_settings = attrs.evolve(one_settings, cache_dir=str(tmp_path / "other-cache"))
        async with (
            running(one_settings) as one,
            running(other_settings) as other,
            one.client() as ana,
            other.client() as bob,
        ):
            await ana.post("/v1/materialize", json=scan(warehouse.uri()))
            stop(database)
            for client in (ana, bob):
                refused = await client.post(
                    "/v1/materialize", json=scan(warehouse.uri(), params={"limit": 5})
                )
                assert (503, "metadata_store_down") == (refused.status_code, refused.json()["error"])
                assert int(refused.headers["Retry-After"]) > 0
            with trio.fail_after(60):
                while not _servers(one).lapsed:  # noqa: ASYNC110  # a lease ends by itself
                    await trio.sleep(0.05)
            start(database)
            commit()
            tables = []
            for client in (ana, bob):
                await until(partial(answered, client, scan(warehouse.uri())))
                tables.append(await fetch(client, scan(warehouse.uri())))
            assert tables[0].equals(tables[1])
            await until(partial(ready, one))
            assert "interrupted" not in [code for _, code in builds(one)]


@pytest.fixture
def processes(pair: tuple[Settings, Settings], tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    with ExitStack() as started:
        found = []
        for index, settings in enumerate(pair):
            directory = tmp_path / f"server-{index}"
            directory.mkdir()
            variables = environment(settings) | {
                "STRATA_ARTIFACT_METADATA_DSN": settings.artifact_metadata_dsn or "",
                "STRATA_ARTIFACT_LEASE_SECONDS": "2",
            }
            found.append(started.enter_context(process(directory, **variables)))
        yield found[0], found[1]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_build_of_a_server_that_is_killed_or_frozen_is_taken_over(
    processes: tuple[Process, Process], pair: tuple[Settings, Settings], warehouse: Warehouse, *, frozen: bool
) -> None:
    """Its reader's table is whole on the other server; a frozen server that wakes up changes nothing."""
    rows = numbers(1_000_000)
    warehouse.create(rows)
    wanted = scan(warehouse.uri())
    dying, heir = processes
    with httpx.Client(headers=identity(), timeout=60) as client:
        answer = client.post(f"{dying.url}/v1/materialize", json=wanted)
        assert 200 == answer.status_code, answer.text
        dying.popen.send_signal(signal.SIGSTOP if frozen else signal.SIGKILL)
        taken = client.post(f"{heir.url}/v1/materialize", json=wanted)
        assert 200 == taken.status_code, taken.text
        stream = taken.json()["stream_url"] or f"{taken.json()['artifact_uri']}"
        data = client.get(f"{heir.url}{stream}")
        assert 200 == data.status_code, data.text
        assert rows.num_rows == pa.ipc.open_stream(data.content).read_all().num_rows
        if frozen:
            dying.popen.send_signal(signal.SIGCONT)
            again = client.post(f"{dying.url}/v1/materialize", json=wanted)
            assert 200 == again.status_code, again.text
        kept = client.post(
            f"{heir.url}/v1/materialize", json=wanted | {"mode": "artifact"}
        )  # waits for the commit
        assert kept.json()["hit"]
    with psycopg.connect(pair[0].artifact_metadata_dsn) as connection:
        ended = connection.execute("SELECT state, error_code FROM builds ORDER BY created_at").fetchall()
    assert [("failed", "interrupted"), ("ready", None)] == ended
