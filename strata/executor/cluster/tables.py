"""Decide whether Daft reads a snapshot of an Iceberg table exactly; if not, its rows are sent as Arrow.

What is listed here was compared with pyiceberg's own reader (``nox -s cluster``); everything else is refused,
by what it is. The table is in the documentation of transforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import PY_IO_IMPL, load_file_io
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import StaticTable
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from strata.executor.cluster.places import OutsidePlaceError, Place, table_at, warehouse_at
from strata.tables.files.confined import ConfinedFileIO

EXACT_TYPES: Final = (
    BooleanType,
    IntegerType,
    LongType,
    FloatType,
    DoubleType,
    DecimalType,
    DateType,
    TimestampType,
    TimestamptzType,
    StringType,
    BinaryType,
)
"""Types of columns that are read exactly."""

FOOTERS_AT_ONCE: Final = 8
"""Footers of files that are read at a time."""

NAME_MAPPING: Final = "schema.name-mapping.default"


class NotExactError(Exception):
    """A table is not read exactly by this engine; the message says what in it is not."""


def open_exact(
    location: str, snapshot_id: int, properties: Mapping[str, str], root: str | None = None
) -> StaticTable:
    """Return a table whose snapshot Daft reads exactly.

    Its files are opened with the operator's properties alone. The table's own, which its writers choose,
    could name any Python class as the file system (``py-io-impl``), or an address that gets credentials.

    Args:
        location: Of its metadata file.
        snapshot_id: The snapshot.
        properties: Of the file system, as pyiceberg names them.
        root: The directory of its warehouse, outside of which no file of it may be; None: its files must be
            below the directory of the table.

    Raises:
        NotExactError: If it is not certain that it does.
    """
    try:
        table, place = _open(location, properties, root)
        snapshot = table.metadata.snapshot_by_id(snapshot_id)
        _check_metadata(table, snapshot)
        if snapshot is not None:
            _check_files(table, snapshot, place)
    except NotExactError:
        raise
    except OutsidePlaceError as error:
        raise NotExactError(str(error)) from None
    except Exception as error:  # noqa: BLE001  # whatever pyiceberg cannot read, the server may
        raise NotExactError(f"its metadata cannot be read here ({type(error).__name__})") from None
    return table


def _open(location: str, properties: Mapping[str, str], root: str | None) -> tuple[StaticTable, Place]:
    """Return the table, and where its files may be."""
    if PY_IO_IMPL in properties:
        raise NotExactError(f"the executor's properties have {PY_IO_IMPL}")
    place = table_at(location) if root is None else warehouse_at(root)
    place.check(location)
    io = load_file_io(dict(properties), location) if root is None else ConfinedFileIO(place.prefix)
    metadata = FromInputFile.table_metadata(io.new_input(location))
    if root is None:
        place.check_table(metadata.location)
    name = ("static-table", location)
    return StaticTable(name, metadata, location, io, NoopCatalog(name[0])), place


def _check_metadata(table: StaticTable, snapshot: Snapshot | None) -> None:
    metadata = table.metadata
    if snapshot is None:
        raise NotExactError("it has no such snapshot")
    if metadata.format_version > 2:  # noqa: PLR2004  # deletion vectors and defaults begin with 3
        raise NotExactError(f"its format version is {metadata.format_version}")
    if NAME_MAPPING in metadata.properties:
        raise NotExactError("its files are read by a name mapping")
    if snapshot.schema_id != metadata.current_schema_id or len(metadata.schemas) > 1:
        raise NotExactError("its schema was changed")
    _check_columns(table)
    if len(metadata.partition_specs) > 1:
        raise NotExactError("its partitioning was changed")
    for one in table.spec().fields:
        if not isinstance(one.transform, IdentityTransform):
            raise NotExactError(f"it is partitioned by {str(one.transform)[:60]}")


def _check_columns(table: StaticTable) -> None:
    for field in table.schema().fields:
        if not isinstance(field.field_type, EXACT_TYPES):
            raise NotExactError(f"its column {field.name[:60]} has the type {str(field.field_type)[:60]}")
        if field.initial_default is not None:
            raise NotExactError(f"its column {field.name[:60]} has an initial default")


def _check_files(table: StaticTable, snapshot: Snapshot, place: Place) -> None:
    """Check the files of a snapshot, the footer of each included; none is opened before its place is."""
    files = []
    if not snapshot.manifest_list:
        raise NotExactError("its snapshot has no manifest list")
    place.check(snapshot.manifest_list)
    for manifest in snapshot.manifests(table.io):
        place.check(manifest.manifest_path)
        if manifest.content != 0:
            raise NotExactError("it has delete files")
        if manifest.partition_spec_id != table.metadata.default_spec_id:
            raise NotExactError("it has files of another partitioning")
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            place.check(entry.data_file.file_path)
            if entry.data_file.file_format != "PARQUET":
                raise NotExactError(f"it has files in {entry.data_file.file_format}")
            partition = entry.data_file.partition
            values = [partition[index] for index in range(len(partition))]
            if len(values) != len(table.spec().fields) or None in values:
                raise NotExactError("a file has no value of a partition field")
            files.append(entry.data_file)
    fields = {field.field_id: field for field in table.schema().fields}
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        for _ in threads.map(lambda file: _check_footer(table, file, fields), files):
            pass


def _check_footer(table: StaticTable, file: DataFile, fields: Mapping[int, NestedField]) -> None:
    """Check that the columns of a file are those of the table, in types that are read as they are."""
    with table.io.new_input(file.file_path).open() as opened:
        footer = pq.read_metadata(pa.PythonFile(opened, "r"))
    if footer.num_rows != file.record_count:
        raise NotExactError("a file has another number of rows than its manifest says")
    seen = set()
    for index, column in enumerate(footer.schema.to_arrow_schema()):
        if footer.schema.column(index).physical_type == "INT96":
            raise NotExactError("a file has timestamps in INT96")
        number = int((column.metadata or {}).get(b"PARQUET:field_id", -1))
        if number not in fields or number in seen:
            raise NotExactError("a file has columns that the table has not")
        seen.add(number)
        wanted = schema_to_pyarrow(fields[number].field_type, include_field_ids=False)
        if _plain(column.type) != _plain(wanted) or column.name != fields[number].name:
            raise NotExactError("a file has a column of another name or type than the table's")
    if len(seen) < len(fields):
        raise NotExactError("a file lacks a column of the table")


def _plain(kind: pa.DataType) -> pa.DataType:
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)
