"""Large cached row groups are read in slices: the same rows, in quanta of a few milliseconds."""

import errno
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from service_kit import Running, Warehouse, fetch, identity, numbers, scan

from strata.cache import SegmentReader, packs
from strata.config import Settings
from strata.tenants.builds import cache_reader, cache_writer, runner, scan_pipeline
from strata.work import WorkPool

SMALL = 2000
ROWS = 3000


@pytest.fixture
def quanta(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Treat every row group as large; return the costs of quanta from here on."""
    costs: list[int] = []
    real = WorkPool.run

    async def run(self, *args, cost=0, **kwargs):
        costs.append(cost)
        return await real(self, *args, cost=cost, **kwargs)

    monkeypatch.setattr(cache_reader, "CACHED_BYTES", SMALL)
    monkeypatch.setattr(scan_pipeline, "SLICE_BYTES", SMALL)
    monkeypatch.setattr(runner, "HASH_BYTES", SMALL)
    monkeypatch.setattr(cache_writer, "CHECKSUM_BYTES", SMALL)
    monkeypatch.setattr(WorkPool, "run", run)
    return costs


async def cached(client: httpx.AsyncClient) -> None:
    """Wait until the read segments are cached."""
    while not (await client.get("/v1/cache/stats")).json()["segments"]:
        pass


@pytest.mark.parametrize("params", [{}, {"filters": [{"column": "id", "op": "<", "value": 1700}]}])
async def test_cached_rows_come_in_slices_and_are_the_same(
    server: Running, warehouse: Warehouse, quanta: list[int], monkeypatch: pytest.MonkeyPatch, params: dict
) -> None:
    """Slices from the cache give the same bytes without a filter, and the same rows with one."""
    warehouse.create(numbers(ROWS))
    reads = []
    for name in ("check", "read", "read_raw"):
        real = getattr(SegmentReader, name)

        def noted(*args, name=name, real=real):
            reads.append(name)
            return real(*args)

        monkeypatch.setattr(SegmentReader, name, noted)
    async with server.client(**identity(scopes="admin:cache")) as client:
        cold: pa.Table = await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]} | params))
        await cached(client)
        body = scan(warehouse.uri(), params={"columns": ["id"]} | params, refresh=True)
        assert [] == reads
        quanta.clear()
        warm = await fetch(client, body)

    assert cold.equals(warm)
    assert cold.num_rows == (1700 if params else ROWS)
    assert reads.count("check") > 5
    assert ("read" if params else "read_raw") in reads
    assert max(quanta) <= 65536


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_damaged_segment_is_never_served(  # noqa: PLR0917  # fixtures
    server: Running,
    settings: Settings,
    warehouse: Warehouse,
    quanta: list[int],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """A segment damaged before a read is read from the table; one damaged during it fails the build."""
    warehouse.create(numbers(ROWS))
    real = SegmentReader.check

    def damage() -> None:
        [pack] = Path(settings.cache_dir).rglob("*.pack")
        data = bytearray(pack.read_bytes())
        data[-40] ^= 1
        copy = pack.with_suffix(".tmp")
        copy.write_bytes(data)  # not in place: the result is the same file
        if when == "before":
            copy.rename(pack)
        else:
            pack.write_bytes(data)

    def check(self, limit):
        found = real(self, limit)
        if when == "meanwhile" and self.checked:
            damage()
        return found

    async with server.client(**identity(scopes="admin:cache")) as client:
        before = await fetch(client, scan(warehouse.uri()))
        await cached(client)
        if when == "before":
            damage()
        monkeypatch.setattr(SegmentReader, "check", check)
        if when == "meanwhile":
            answer = await client.post(
                "/v1/materialize", json=scan(warehouse.uri(), refresh=True, mode="artifact")
            )
            build = answer.json()["build_id"]
            while (state := (await client.get(f"/v1/builds/{build}")).json())["state"] in {
                "pending",
                "building",
            }:
                pass
            assert ("failed", "cache_damaged") == (state["state"], state["error_code"])
            return
        assert before.equals(await fetch(client, scan(warehouse.uri(), refresh=True)))
        assert quanta


async def test_results_on_another_file_system_are_cached_in_slices(
    server: Running, warehouse: Warehouse, quanta: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that cannot be linked into the cache is copied, and served from the copy."""

    def refuse(*_args: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(packs.os, "link", refuse)
    warehouse.create(numbers(ROWS))
    async with server.client(**identity(scopes="admin:cache")) as client:
        cold = await fetch(client, scan(warehouse.uri()))
        await cached(client)
        hits = (await client.get("/v1/cache/stats")).json()["hits"]
        assert cold.equals(await fetch(client, scan(warehouse.uri(), refresh=True)))
        assert hits < (await client.get("/v1/cache/stats")).json()["hits"]
    assert quanta.count(SMALL) > 10
