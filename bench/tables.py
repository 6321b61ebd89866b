"""Write the table to scan: many row groups in many files, of the common types."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import psycopg
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

NAMESPACE = "bench"
TABLE = "events"
WARM_UP = "warm_up"
WIDE = "wide"
WIDE_COLUMNS = 10_000
FILES = 20
ROW_GROUPS_PER_FILE = 4
SEED = 20130101
MARK = "bench.json"

_EPOCH = np.datetime64("2013-01-01", "us")
_CITIES = np.array(["Amsterdam", "Bogotá", "Cairo", "Dakar", "Edinburgh", "Fukuoka", "Göteborg", "Hanoi"])


@attrs.frozen
class ScanFiles:
    """The files of a full scan of a table.

    Attributes:
        rows: Rows of the table.
        paths: Data files in the plan's order.
        before: The snapshot before the latest one; None: there is none.
    """

    rows: int
    paths: tuple[Path, ...]
    before: int | None = None


def uri_of(warehouse: Path, table: str = TABLE) -> str:
    """Return the URI of a generated table."""
    return f"file://{warehouse}#{NAMESPACE}.{table}"


def generate(warehouse: Path, rows: int) -> None:
    """Write the table, unless ``warehouse`` already has it with as many rows, and one like its first file.

    Args:
        warehouse: Directory of the warehouse; made when missing.
        rows: Rows of the whole table, spread evenly over 20 files of 4 row groups.

    Raises:
        FileExistsError: If the directory holds anything else.
    """
    mark = warehouse / MARK
    warm_up_rows = rows // FILES
    wanted = {
        "rows": rows,
        "files": FILES,
        "row_groups": ROW_GROUPS_PER_FILE,
        "seed": SEED,
        WARM_UP: warm_up_rows,
    }
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return
    if warehouse.exists() and any(warehouse.iterdir()):
        raise FileExistsError(f"{warehouse} holds something else than {rows} generated rows")
    warehouse.mkdir(parents=True, exist_ok=True)
    catalog = _catalog(warehouse)
    catalog.create_namespace(NAMESPACE)
    per_file = [rows // FILES + (number < rows % FILES) for number in range(FILES)]
    limit = max(1, -(-max(per_file) // ROW_GROUPS_PER_FILE))
    generator = np.random.default_rng(SEED)
    properties = {"write.parquet.row-group-limit": str(limit)}
    schema = _rows(generator, 0, 1).schema
    table = catalog.create_table(f"{NAMESPACE}.{TABLE}", schema, properties=properties)
    begin = 0
    for count in per_file:
        if count:
            table.append(_rows(generator, begin, count))
        begin += count
    warm_up = catalog.create_table(f"{NAMESPACE}.{WARM_UP}", schema, properties=properties)
    warm_up.append(_rows(generator, 0, warm_up_rows))
    mark.write_text(json.dumps(wanted))


def generate_wide(warehouse: Path) -> None:
    """Write a table of 10,000 columns and no rows into a generated warehouse, unless it has it already."""
    catalog = _catalog(warehouse)
    if not catalog.table_exists(f"{NAMESPACE}.{WIDE}"):
        columns = [(f"c{number:05}", pa.int64()) for number in range(WIDE_COLUMNS)]
        catalog.create_table(f"{NAMESPACE}.{WIDE}", pa.schema(columns))


def fill_store(database: Path, tenant: str, uri: str, count: int) -> None:
    """Add finished results of a tenant, with a name each, to a server's metadata database.

    Their bytes do not exist: they are listed and counted, and not read.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for statement, rows in _results(tenant, uri, count):
            connection.executemany(statement, rows)


def fill_postgresql(dsn: str, tenant: str, uri: str, count: int) -> None:
    """Add the same to a database of PostgreSQL, unless they are there."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        for statement, rows in _results(tenant, uri, count):
            text = statement.replace("?", "%s") + " ON CONFLICT DO NOTHING"
            cursor.executemany(text, rows)  # type: ignore[arg-type]  # a literal of ours


def _results(tenant: str, uri: str, count: int) -> Iterator[tuple[str, Iterator[tuple[Any, ...]]]]:
    """Return the statements that add results, each with its rows."""
    inputs, scan = json.dumps({uri: "1"}), '{"executor": "scan@v1", "params": {}}'
    keys = [f"{number:032x}" for number in range(count)]
    artifacts = (
        "INSERT INTO artifacts (tenant, artifact_id, version, state, provenance_hash, query_hash,"
        " transform_spec, input_versions, created_at, arrow_schema, row_count, byte_size, content_sha256)"
        " VALUES (?, ?, 1, 'ready', ?, ?, ?, ?, ?, 'id: int64', 1, ?, ?)"
    )
    yield (
        artifacts,
        ((tenant, key, key * 2, key * 2, scan, inputs, 1e9 + n, n, key * 2) for n, key in enumerate(keys)),
    )
    names = "INSERT INTO names (tenant, name, artifact_id, version, updated_at) VALUES (?, ?, ?, 1, 0)"
    yield names, ((tenant, f"result/{key}", key) for key in keys)


def files_of(uri: str) -> ScanFiles | None:
    """Return the files of a full scan of ``uri``, or None if this machine cannot read them."""
    location, _, name = uri.partition("#")
    warehouse = Path(location.removeprefix("file://"))
    if not location.startswith("file://") or not (warehouse / "catalog.db").is_file():
        return None
    table: Table = _catalog(warehouse).load_table(name)
    tasks = list(table.scan().plan_files())
    paths = tuple(Path(PyArrowFileIO.parse_location(task.file.file_path)[2]) for task in tasks)
    snapshots = [entry.snapshot_id for entry in table.history()]
    return ScanFiles(
        sum(task.file.record_count for task in tasks), paths, snapshots[-2] if len(snapshots) > 1 else None
    )


def _catalog(warehouse: Path) -> SqlCatalog:
    return SqlCatalog("strata", uri=f"sqlite:///{warehouse / 'catalog.db'}", warehouse=str(warehouse))


def _rows(generator: np.random.Generator, begin: int, count: int) -> pa.Table:
    """Return ``count`` rows of 10 columns; ids start at ``begin``."""
    ids = np.arange(begin, begin + count, dtype=np.int64)
    seconds = np.sort(generator.integers(0, 86_400, count))
    micros = (ids // 10_000 * 86_400 + seconds) * 1_000_000
    cities = generator.integers(0, len(_CITIES), count)
    return pa.table(
        {
            "id": ids,
            "at": pa.array(_EPOCH + micros.astype("timedelta64[us]"), pa.timestamp("us")),
            "day": pa.array((_EPOCH + micros.astype("timedelta64[us]")).astype("datetime64[D]"), pa.date32()),
            "city": pa.array(_CITIES[cities]),
            "label": pa.array(np.char.add("event-", generator.integers(0, 1_000_000, count).astype(str))),
            "kind": pa.array(generator.integers(0, 50, count), pa.int32()),
            "value": generator.normal(size=count),
            "price": np.round(generator.gamma(2.0, 40.0, count), 2),
            "ratio": pa.array(generator.random(count), mask=generator.random(count) < 0.05),
            "ok": pa.array(generator.random(count) < 0.9),
        }
    )
