"""Many small row groups: the same rows with a request to a reader for many of them, in the table's order."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.readers.messages import ExpandRun, Read, ReadRun
from strata.readers.processes import Reader

FILES, ROWS = 10, 100
ALL = list(range(ROWS))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note what readers are asked for; on a full machine, too, a run waits for its reader."""
    monkeypatch.setattr("strata.readers.steps.BUSY_SECONDS", 60.0)
    found: list[Any] = []
    real = Reader.call

    def call(reader: Reader, request: Any, *args: Any) -> Any:
        found.append(request.body)
        return real(reader, request, *args)

    monkeypatch.setattr(Reader, "call", call)
    return found


def small_files(warehouse: Warehouse) -> None:
    """Write the numbers up to a hundred into ten files of five row groups."""
    rows = numbers(ROWS)
    table = warehouse.create(rows.slice(0, ROWS // FILES), **{"write.parquet.row-group-limit": "2"})
    for number in range(1, FILES):
        table.append(rows.slice(number * ROWS // FILES, ROWS // FILES))


def sorts(asked: list[Any]) -> tuple[int, int, int]:
    """Return how many row groups were read alone, and how many requests read or expanded several."""
    kinds = [type(body) for body in asked]
    return kinds.count(Read), kinds.count(ReadRun), kinds.count(ExpandRun)


async def cached(server: Running, segments: int) -> None:
    """Wait until the cache has so many segments: they are written after they were sent."""
    [tenant] = server.service.registry.tenants()
    with trio.fail_after(60):
        while tenant.actor.shard.stats().segments < segments:
            await trio.lowlevel.checkpoint()


async def test_small_row_groups_are_read_with_few_requests(
    server: Running, warehouse: Warehouse, asked: list[Any]
) -> None:
    """The first one alone, for which the client waits; then runs, whose cached segments are as of others."""
    small_files(warehouse)
    async with server.client() as client:
        found = await fetch(client, scan(warehouse.uri()))
        assert ALL == sorted(found.column("id").to_pylist())
        alone, runs, expanded = sorts(asked)
        assert 1 == alone
        assert runs <= 6
        assert expanded <= 4
        await cached(server, FILES * 5)
        asked.clear()
        again = await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]}))
        assert found.column("id").to_pylist() == again.column("id").to_pylist()
        assert (0, 0) == sorts(asked)[:2], "all of it is cached"


async def test_what_is_partly_cached_is_read_alone(
    server: Running, warehouse: Warehouse, asked: list[Any]
) -> None:
    """A run with a cached row group takes that from the cache and the others from their files."""
    small_files(warehouse)
    async with server.client() as client:
        few = {"filters": [{"column": "id", "op": "in", "value": [13, 57, 58, 91]}]}
        assert [13, 57, 58, 91] == sorted(
            (await fetch(client, scan(warehouse.uri(), params=few))).column("id").to_pylist()
        )
        await cached(server, 4)
        asked.clear()
        found = await fetch(client, scan(warehouse.uri()))
        assert ALL == sorted(found.column("id").to_pylist())
        assert sorts(asked)[0] > 1
        assert sorts(asked)[0] < FILES * 5


async def test_a_limit_of_rows_ends_the_reading(
    server: Running, warehouse: Warehouse, asked: list[Any]
) -> None:
    """With a limit no files are expanded together, and the reading ends soon behind it: a few are under way."""
    small_files(warehouse)
    async with server.client() as client:
        found = await fetch(client, scan(warehouse.uri(), params={"limit": 3}))
        assert 3 == found.num_rows
        assert (0, 0) == sorts(asked)[1:]
        assert sorts(asked)[0] < FILES * 5 // 2


async def test_rules_hold_for_rows_that_are_read_together(
    settings: Settings, warehouse: Warehouse, asked: list[Any]
) -> None:
    """Rows that a rule hides are in no run's result."""
    small_files(warehouse)
    policy = Policy(allow=(Rule("ana", "tables/**", rows="id >= 40 and id < 70"),))
    async with (
        running(attrs.evolve(settings, acl_config=policy)) as server,
        server.client(**identity("ana", "team-a")) as client,
    ):
        found = await fetch(client, scan(warehouse.uri()))
        assert list(range(40, 70)) == sorted(found.column("id").to_pylist())
        assert sorts(asked)[1] > 0


async def test_a_damaged_file_among_small_ones_is_refused_by_name(
    server: Running, warehouse: Warehouse
) -> None:
    """The build fails with the file's name, as if it had been read alone."""
    small_files(warehouse)
    bad = sorted(warehouse.path.rglob("*.parquet"))[FILES // 2]
    whole = bad.read_bytes()
    bad.write_bytes(b"PAR1" + bytes(len(whole) - 12) + whole[-8:])
    async with server.client() as client:
        made = await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))
        build = made.json()
        while build["state"] not in {"ready", "failed"}:
            build = (await client.get(f"/v1/builds/{build['build_id']}")).json()
        assert "failed" == build["state"]
        assert bad.name in str(build)
