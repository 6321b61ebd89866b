"""Counting rows: from metadata where that is exact, without a look at any data file, else by reading."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import trio
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import Warehouse, running

from strata.client import AsyncStrataClient, StrataClient, StrataError
from strata.config import Settings

URI = "wh:db.t"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    made = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    table = pa.table({"id": pa.array(range(10), pa.int64())})
    made.create(table.slice(0, 6), "db.t").append(table.slice(6))
    return made


@pytest.fixture
def settings(tmp_path: Path, warehouse: Warehouse) -> Settings:
    return Settings(
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(warehouse.path)},
        log_level="WARNING",
    )


async def with_client(url: str, call: Callable[[StrataClient], Any]) -> Any:
    def run() -> Any:
        with StrataClient(url, transport=httpx.HTTPTransport()) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


async def test_a_count_by_exact_metadata_reads_no_data_file(settings: Settings, warehouse: Warehouse) -> None:
    """The files are gone, and the count is right: of now and of an older snapshot."""
    table = warehouse.catalog.load_table("db.t")
    first = table.metadata.snapshots[0].snapshot_id
    for file in table.inspect.files()["file_path"].to_pylist():
        Path(file.removeprefix("file://")).unlink()
    async with running(settings) as server:
        count = partial(with_client, server.url)
        assert 10 == await count(lambda client: client.count(URI))
        assert 6 == await count(lambda client: client.count(URI, snapshot_id=first))
        async with AsyncStrataClient(server.url) as client:
            assert 10 == await client.count(URI)
        with pytest.raises(StrataError, match="is missing or damaged"):
            await count(lambda client: client.count(URI, filters=[("id", ">", 3)]))


async def test_a_count_that_metadata_does_not_tell_is_read(settings: Settings) -> None:
    """A filter leaves fewer rows than the files have."""
    async with running(settings) as server:
        count = partial(with_client, server.url)
        assert 6 == await count(lambda client: client.count(URI, filters=[("id", ">", 3)]))
        assert 3 == await count(lambda client: client.count(URI, limit=3))
