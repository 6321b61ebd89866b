"""The demo's warehouse: real data as Iceberg tables with several snapshots.

======================  ==============================================================================
``nyc.flights``         partitioned by month of departure; one snapshot per quarter, tag ``first-half``
                        after the second, then a column added and one widened; at last the flights that
                        the blizzard of 8 and 9 February cancelled, deleted by position (merge on read)
``nyc.weather``         partitioned by airport; one append, a column renamed, and LaGuardia's readings
                        after Christmas deleted by rewriting their file (copy on write)
``nyc.planes``          partitioned by a hash of the tail number
``nyc.airports``,       small, not partitioned
``nyc.airlines``
``internal.delays``     arrivals more than three hours late; denied to ``demo-user``
======================  ==============================================================================

Every run writes the same rows to the same files in the same order; only ids and snapshot times differ.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, MonthTransform, Transform
from pyiceberg.types import LongType, StringType

from strata.demo.errors import DirectoryInUseError
from strata.demo.positional import delete_rows
from strata.demo.source import find_source, read_source

ALIAS = "demo"
TAG = "first-half"
VERSION = 1
STEPS = 11

_MARKER = "strata-demo.json"
_ROW_GROUP_ROWS = 8192
_VERY_LATE = 180  # minutes

Progress = Callable[[str], None]


@attrs.frozen
class DataSet:
    """A complete warehouse.

    Attributes:
        directory: The demo's directory, with everything it writes.
        reused: Whether an earlier run wrote it.
    """

    directory: Path
    reused: bool

    @property
    def warehouse(self) -> Path:
        """The warehouse's directory."""
        return self.directory / "warehouse"

    @contextmanager
    def catalog(self) -> Iterator[SqlCatalog]:
        """Open the catalog under the name of the wire contract ("Table URIs")."""
        with _open_catalog(self.warehouse) as catalog:
            yield catalog


def prepare(directory: Path, progress: Progress) -> DataSet:
    """Return the data set in ``directory``, written first unless it is complete.

    Args:
        directory: Created if missing; files of an interrupted run are replaced.
        progress: Called with each next step, :data:`STEPS` times; never if nothing is to be written.

    Raises:
        SourceMissingError: If the data is not installed.
        DirectoryInUseError: If the directory contains anything but the demo's files.
    """
    source = find_source()
    directory = directory.expanduser().resolve()
    marker = directory / _MARKER
    if marker.is_file():
        if json.loads(marker.read_bytes()) == {"version": VERSION, "complete": True}:
            return DataSet(directory, reused=True)
        for below in ("warehouse", "artifacts", "cache"):
            shutil.rmtree(directory / below, ignore_errors=True)
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DirectoryInUseError(
            f"{directory} is not empty and no directory of strata demo; use --data with another one"
        )
    directory.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"version": VERSION, "complete": False}))
    found = DataSet(directory, reused=False)
    found.warehouse.mkdir()
    with found.catalog() as catalog:
        _write_all(catalog, source, progress)
    marker.write_text(json.dumps({"version": VERSION, "complete": True}))
    return found


def _write_all(catalog: SqlCatalog, source: Path, progress: Progress) -> None:
    progress("reading the source")
    flights = read_source(source, "flights")
    airlines = read_source(source, "airlines")
    catalog.create_namespace("nyc")
    catalog.create_namespace("internal")
    _write_flights(catalog, flights, airlines, progress)
    _write_weather(catalog, read_source(source, "weather"), progress)
    progress("planes")
    planes = read_source(source, "planes")
    _create(catalog, "nyc.planes", planes.schema, "tailnum", BucketTransform(4)).append(planes)
    progress("airports and airlines")
    airports = read_source(source, "airports")
    _create(catalog, "nyc.airports", airports.schema).append(airports)
    _create(catalog, "nyc.airlines", airlines.schema).append(airlines)
    progress("internal.delays")
    late = flights.filter(pc.field("arr_delay") > _VERY_LATE)
    late = late.select(["time_hour", "carrier", "flight", "tailnum", "origin", "dest", "arr_delay"])
    _create(catalog, "internal.delays", late.schema).append(late)


def _write_flights(catalog: SqlCatalog, flights: pa.Table, airlines: pa.Table, progress: Progress) -> None:
    progress("flights, first quarter")
    table = _create(catalog, "nyc.flights", flights.schema, "time_hour", MonthTransform())
    table.append(_quarter(flights, 1))
    progress("flights, second quarter")
    table.append(_quarter(flights, 2))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, TAG).commit()
    with table.update_schema() as update:
        update.add_column("carrier_name", StringType())
        update.update_column("distance", LongType())
    named = _with_carrier_names(flights, airlines)
    for number, name in ((3, "third"), (4, "fourth")):
        progress(f"flights, {name} quarter")
        table.append(_quarter(named, number))
    progress("flights, deletes by position")
    blizzard = (pc.field("month") == 2) & pc.field("day").isin([8, 9])  # noqa: PLR2004 - February
    delete_rows(table, blizzard & pc.field("dep_time").is_null(), columns=["month", "day", "dep_time"])


def _write_weather(catalog: SqlCatalog, weather: pa.Table, progress: Progress) -> None:
    progress("weather")
    table = _create(catalog, "nyc.weather", weather.schema, "origin", IdentityTransform())
    table.append(weather)
    with table.update_schema() as update:
        update.rename_column("visib", "visibility")
    progress("weather, deletes by rewriting")
    table.delete("origin == 'LGA' and month == 12 and day > 25")


def _quarter(flights: pa.Table, number: int) -> pa.Table:
    return flights.filter(pc.field("month").isin(range(3 * number - 2, 3 * number + 1)))


def _with_carrier_names(flights: pa.Table, airlines: pa.Table) -> pa.Table:
    """Return flights with the columns of the later schema."""
    at = pc.index_in(flights["carrier"], value_set=airlines["carrier"])
    names = airlines["name"].combine_chunks().take(at)
    wider = flights["distance"].cast(pa.int64())
    index = flights.schema.get_field_index("distance")
    assert index >= 0
    return flights.set_column(index, "distance", wider).append_column("carrier_name", names)


def _create(
    catalog: SqlCatalog,
    identifier: str,
    schema: pa.Schema,
    partition_column: str | None = None,
    transform: Transform[Any, Any] | None = None,
) -> Table:
    # Small row groups, so that pruning and caching have an effect at this size.
    properties = {"format-version": "2", "write.parquet.row-group-limit": str(_ROW_GROUP_ROWS)}
    table = catalog.create_table(identifier, schema, properties=properties)
    if partition_column is not None and transform is not None:
        with table.update_spec() as update:
            update.add_field(partition_column, transform)
    return table


@contextmanager
def _open_catalog(warehouse: Path) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=str(warehouse))
    try:
        yield catalog
    finally:
        catalog.engine.dispose()
