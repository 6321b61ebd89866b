"""Write tables of harder shapes than the usual one: wide, of many files, of many row groups, nested."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

NAMESPACE = "shapes"
MARK = "shapes.json"
WIDE_COLUMNS = 1_000


@attrs.frozen
class Shape:
    """A table, and the scan of it that is measured.

    Attributes:
        name: What it is called in the figures.
        table: The table's name; several shapes may scan one table.
        params: Parameters of the scan.
        aim: Most of the baseline's time, as a ratio; None if it is a difference that counts.
    """

    name: str
    table: str
    params: dict[str, Any]
    aim: float | None


SHAPES = (
    Shape("2 of 1,000 columns", "wide", {"columns": ["c7", "c8"]}, None),
    Shape("20,000 rows of 1,000 columns", "wide", {}, 1.5),
    Shape("2,000 files of 1,000 rows", "files", {}, 0.8),
    Shape("1,000 row groups of 5,000 rows", "groups", {}, 1.2),
    Shape("200,000 texts of 700 bytes", "texts", {}, 1.5),
    Shape("1,000,000 lists of structs", "nested", {}, 1.2),
)


def _wide(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    yield pa.table({f"c{number}": draw.normal(size=20_000 // divisor) for number in range(WIDE_COLUMNS)})


def _files(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    for _ in range(2_000 // divisor):
        yield _narrow(draw, 1_000)


def _groups(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    yield _narrow(draw, 5_000_000 // divisor)


def _narrow(draw: np.random.Generator, rows: int) -> pa.Table:
    return pa.table(
        {"id": np.arange(rows), "kind": draw.integers(0, 50, rows), "value": draw.normal(size=rows)}
    )


def _texts(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    rows = 200_000 // divisor
    letters = draw.integers(97, 123, (rows, 700), dtype=np.uint8)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 700)
    texts = pa.StringArray.from_buffers(rows, offsets.buffers()[1], pa.py_buffer(letters.tobytes()))
    yield pa.table({"id": np.arange(rows), "text": texts})


def _nested(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    rows = 1_000_000 // divisor
    lengths = draw.integers(0, 4, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    total = int(offsets[-1])
    some = pa.array([f"item-{number}" for number in range(1_000)])
    names = some.take(pa.array(draw.integers(0, 1_000, total)))
    structs = pa.StructArray.from_arrays([pa.array(draw.normal(size=total)), names], ["price", "name"])
    yield pa.table({"id": np.arange(rows), "items": pa.ListArray.from_arrays(pa.array(offsets), structs)})


def _warm_up(draw: np.random.Generator, divisor: int) -> Iterator[pa.Table]:
    yield _narrow(draw, 100_000 // divisor)


_WRITERS: dict[str, tuple[Callable[[np.random.Generator, int], Iterator[pa.Table]], int]] = {
    "wide": (_wide, 1_048_576),
    "files": (_files, 1_048_576),
    "groups": (_groups, 5_000),
    "texts": (_texts, 1_048_576),
    "nested": (_nested, 1_048_576),
    "warm_up": (_warm_up, 1_048_576),
}
"""How each table is written: its rows, a table a file, and the rows of its row groups."""


def generate(warehouse: Path, divisor: int = 1) -> None:
    """Write the tables, unless ``warehouse`` has them already.

    Args:
        warehouse: Directory of the warehouse; made when missing.
        divisor: Of what the shapes are named after, so much less is written.

    Raises:
        FileExistsError: If the directory holds anything else.
    """
    mark = warehouse / MARK
    wanted = {"tables": sorted(_WRITERS), "divisor": divisor}
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return
    if warehouse.exists() and any(warehouse.iterdir()):
        raise FileExistsError(f"{warehouse} holds something else than the tables of shapes")
    warehouse.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse / 'catalog.db'}", warehouse=str(warehouse))
    catalog.create_namespace(NAMESPACE)
    for name, (write, group_rows) in _WRITERS.items():
        directory, paths, schema = warehouse / "data" / name, [], None
        directory.mkdir(parents=True)
        for number, rows in enumerate(write(np.random.default_rng(7), divisor)):
            paths.append(str(directory / f"{number:05}.parquet"))
            schema = rows.schema
            pq.write_table(rows, paths[-1], row_group_size=group_rows)
        table = catalog.create_table(f"{NAMESPACE}.{name}", schema)
        table.add_files(paths, check_duplicate_files=False)
    mark.write_text(json.dumps(wanted))
