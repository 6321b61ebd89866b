"""Tables with a known history: real Iceberg metadata and files, made once, and the rows of each version."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import attrs
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import GreaterThanOrEqual

TENANTS = ("red", "green", "blue")
SHARED = "commons"


def marker(owner: str) -> str:
    """Text in every row of a tenant's own table, which must appear nowhere else."""
    return f"secret-of-{owner}"


@attrs.frozen(eq=False)
class Version:
    """A version of a table.

    Attributes:
        location: Location of its metadata file.
        rows: All of its rows.
    """

    location: str
    rows: pa.Table


@attrs.frozen(eq=False)
class Lake:
    """A warehouse.

    Attributes:
        path: Its directory.
        tables: The versions of each table ``<owner>.t`` in the order of their commits.
    """

    path: Path
    tables: dict[str, tuple[Version, ...]]


def _rows(owner: str, begin: int, count: int) -> pa.Table:
    ids = range(begin, begin + count)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "owner": pa.array([f"{marker(owner)}-{number}" for number in ids], pa.string()),
            "value": pa.array([None if number % 7 == 0 else number / 2 for number in ids], pa.float64()),
        }
    )


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="strata-lake-")  # removed when the process ends


@cache
def lake() -> Lake:
    """Return the warehouse of this process, made at the first call."""
    path = Path(_directory().name)
    catalog = SqlCatalog("strata", uri=f"sqlite:///{path / 'catalog.db'}", warehouse=str(path))
    tables: dict[str, tuple[Version, ...]] = {}
    for owner in (*TENANTS, SHARED):
        catalog.create_namespace(owner)
        held_rows = _rows(owner, 0, 120)
        table = catalog.create_table(
            f"{owner}.t", schema=held_rows.schema, properties={"write.parquet.row-group-limit": "50"}
        )
        table.append(held_rows)
        versions = [Version(table.metadata_location, held_rows)]
        more = _rows(owner, 1000, 60)
        table.append(more)
        held_rows = pa.concat_tables([held_rows, more])
        versions.append(Version(table.metadata_location, held_rows))
        table.delete(GreaterThanOrEqual("id", 1030))
        held_rows = held_rows.filter(pa.compute.less(held_rows["id"], 1030))
        versions.append(Version(table.metadata_location, held_rows))
        tables[owner] = tuple(versions)
    return Lake(path, tables)
