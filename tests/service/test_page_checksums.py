"""A page whose bytes are not those of its checksum is refused, and never read as other rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from service_kit import Warehouse, fetch, running, scan

from strata.config import Settings

ROWS = 1000


async def test_a_damaged_page_with_a_checksum_is_refused_by_name(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Before, one changed byte of a value was another value: Arrow verifies checksums only where it is asked."""
    values = pa.table({"id": pa.array(np.arange(ROWS, dtype="int64") * 7919)})
    warehouse.catalog.create_namespace("db")
    table = warehouse.catalog.create_table("db.sums", values.schema)
    folder = Path(table.location().removeprefix("file://")) / "data"
    folder.mkdir(parents=True)
    whole, damaged = folder / "whole.parquet", folder / "damaged.parquet"
    for path in (whole, damaged):
        pq.write_table(values, path, compression="none", use_dictionary=False, write_page_checksum=True)
    table.add_files([str(whole)])
    async with running(settings) as server, server.client() as client:
        assert (
            values["id"].to_pylist()
            == (await fetch(client, scan(warehouse.uri("db.sums"))))["id"].to_pylist()
        )
        table.add_files([str(damaged)])
        data = bytearray(damaged.read_bytes())
        at = data.index((7919 * 500).to_bytes(8, "little"))
        data[at] ^= 1
        damaged.write_bytes(data)
        made = await client.post("/v1/materialize", json=scan(warehouse.uri("db.sums")))
        answer = await client.get(made.json()["stream_url"]) if made.is_success else made
        assert 500 == answer.status_code
        assert "damaged.parquet" in answer.json()["detail"]
