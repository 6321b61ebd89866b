"""Make an Iceberg table file by file, with the freedoms that the specification leaves to its writers."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyroaring import BitMap64

from foreign import avro

NO_NAME = 0
START_MS = 1_700_000_000_000
MAPPING = "schema.name-mapping.default"

Json = dict[str, Any]
File = dict[str, Any]


def field(number: int, name: str, kind: Any, *, required: bool = False, **more: Any) -> Json:
    return {"id": number, "name": name, "required": required, "type": kind} | more


def struct_of(*fields: Json) -> Json:
    return {"type": "struct", "fields": list(fields)}


def list_of(number: int, kind: Any) -> Json:
    return {"type": "list", "element-id": number, "element": kind, "element-required": False}


def map_of(key: int, key_kind: Any, value: int, value_kind: Any) -> Json:
    return {
        "type": "map", "key-id": key, "key": key_kind, "value-id": value, "value": value_kind, "value-required": False
    }  # fmt: skip


def part(source: int, number: int, transform: str, name: str) -> Json:
    return {"source-id": source, "field-id": number, "transform": transform, "name": name}


def optional(kind: Any) -> list[Any]:
    return ["null", kind]


def _pairs(key: int, value: int, kind: str) -> Json:
    entry = {
        "type": "record",
        "name": f"k{key}_v{value}",
        "fields": [
            {"name": "key", "type": "int", "field-id": key},
            {"name": "value", "type": kind, "field-id": value},
        ],
    }
    return {"type": "array", "logicalType": "map", "items": entry}


def _listed(number: int, kind: str) -> Json:
    return {"type": "array", "items": kind, "element-id": number}


FILE_FIELDS: dict[str, tuple[int, Any]] = {
    "content": (134, "int"),
    "file_path": (100, "string"),
    "file_format": (101, "string"),
    "partition": (102, None),
    "record_count": (103, "long"),
    "file_size_in_bytes": (104, "long"),
    "block_size_in_bytes": (105, "long"),
    "column_sizes": (108, optional(_pairs(117, 118, "long"))),
    "value_counts": (109, optional(_pairs(119, 120, "long"))),
    "null_value_counts": (110, optional(_pairs(121, 122, "long"))),
    "nan_value_counts": (137, optional(_pairs(138, 139, "long"))),
    "lower_bounds": (125, optional(_pairs(126, 127, "bytes"))),
    "upper_bounds": (128, optional(_pairs(129, 130, "bytes"))),
    "key_metadata": (131, optional("bytes")),
    "split_offsets": (132, optional(_listed(133, "long"))),
    "equality_ids": (135, optional(_listed(136, "int"))),
    "sort_order_id": (140, optional("int")),
    "first_row_id": (142, optional("long")),
    "referenced_data_file": (143, optional("string")),
    "content_offset": (144, optional("long")),
    "content_size_in_bytes": (145, optional("long")),
}
"""Fields of a manifest's ``data_file`` (Iceberg specification, "Manifests"); each file may lack optional ones."""

SINCE = {"content": 2, "equality_ids": 2, "first_row_id": 3, "referenced_data_file": 2} | dict.fromkeys(
    ("content_offset", "content_size_in_bytes"), 3
)
PARTITION_TYPES = {
    "int": "int", "long": "long", "string": "string", "double": "double", "float": "float", "boolean": "boolean",
    "date": {"type": "int", "logicalType": "date"}, "uuid": {"type": "fixed", "name": "uuid_fixed", "size": 16},
    "timestamp": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": False},
    "timestamptz": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": True},
    "binary": "bytes",
}  # fmt: skip
LIST_FIELDS: tuple[tuple[int, str, Any, int], ...] = (
    (500, "manifest_path", "string", 1),
    (501, "manifest_length", "long", 1),
    (502, "partition_spec_id", "int", 1),
    (517, "content", "int", 2),
    (515, "sequence_number", "long", 2),
    (516, "min_sequence_number", "long", 2),
    (503, "added_snapshot_id", "long", 1),
    (504, "added_files_count", "int", 1),
    (505, "existing_files_count", "int", 1),
    (506, "deleted_files_count", "int", 1),
    (512, "added_rows_count", "long", 1),
    (513, "existing_rows_count", "long", 1),
    (514, "deleted_rows_count", "long", 1),
)


def pack(value: Any, kind: str) -> bytes:
    """Return Iceberg's single-value serialization ("Appendix D")."""
    match kind:
        case "int" | "date":
            return struct.pack("<i", value)
        case "long" | "timestamp" | "timestamptz" | "time":
            return struct.pack("<q", value)
        case "float":
            return struct.pack("<f", value)
        case "double":
            return struct.pack("<d", value)
    return value.encode() if isinstance(value, str) else bytes(value)


_LISTS: tuple[tuple[Any, Any], ...] = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
)


def numbered(data: pa.Table, ids: Sequence[int | None]) -> pa.Table:
    """Give the fields of a table their ids, each before those inside it; ``None``: no id."""
    numbers = iter(ids)
    schema = pa.schema([_numbered(one, numbers) for one in data.schema])
    if next(numbers, NO_NAME) != NO_NAME:
        raise ValueError("more ids than fields")
    columns = [column.cast(one.type) for column, one in zip(data.columns, schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _numbered(one: pa.Field, numbers: Iterator[int | None]) -> pa.Field:
    number = next(numbers)
    kind = one.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_numbered(inner, numbers) for inner in kind])
    elif pa.types.is_map(kind):
        key, item = _numbered(kind.key_field, numbers), _numbered(kind.item_field, numbers)
        kind = pa.map_(key, item)
    else:
        for test, make in _LISTS:
            if test(kind):
                kind = make(_numbered(kind.value_field, numbers))
                break
    metadata = {} if number is None else {"PARQUET:field_id": str(number)}
    return pa.field(one.name, kind, one.nullable, metadata)


@attrs.define
class Maker:
    """A table in the making.

    Attributes:
        folder: Its location.
        version: Format version of metadata and manifests.
        fields: Columns of the current schema, as Iceberg's JSON.
        spec: Partition fields of the current spec.
        properties: Table properties.
        schemas: Older schemas.
        specs: Older specs.
        snapshots: All snapshots.
        refs: Branches and tags.
        current: Id of the current snapshot.
        location: Location of the metadata file, once it is written.
        partition_schema: Avro's type of partition values; None: that of the spec.
    """

    folder: Path
    version: int = 2
    fields: list[Json] = attrs.field(factory=lambda: [field(1, "id", "long"), field(2, "s", "string")])
    spec: list[Json] = attrs.field(factory=list)
    properties: dict[str, str] = attrs.field(factory=dict)
    schemas: list[Json] = attrs.field(factory=list)
    specs: list[Json] = attrs.field(factory=list)
    snapshots: list[Json] = attrs.field(factory=list)
    refs: dict[str, Json] = attrs.field(factory=dict)
    current: int | None = None
    location: str = ""
    partition_schema: Json | None = None
    _count: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    # -- what the table is

    def evolve(self, *fields: Json) -> None:
        """Make the columns so far an older schema, and ``fields`` the current one."""
        self.schemas.append({"type": "struct", "schema-id": len(self.schemas), "fields": self.fields})
        self.fields = list(fields)

    def repartition(self, *fields: Json) -> None:
        """Make the partitioning so far an older spec, and ``fields`` the current one."""
        self.specs.append({"spec-id": len(self.specs), "fields": self.spec})
        self.spec = list(fields)

    # -- files

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def parquet(
        self, data: pa.Table, *, ids: Sequence[int | None] | None = None, name: str = "", **options: Any
    ) -> File:
        """Write a Parquet file; its fields have the ids of ``ids``, by default 1, 2 …; none for ``()``."""
        if ids is None:
            ids = range(1, data.num_columns + 1)
        path = self.path(name or f"data/{next(self._count):05}.parquet")
        pq.write_table(numbered(data, ids) if ids else data, path, **options)
        return self.described(path, data.num_rows)

    def described(self, path: Path, rows: int, **more: Any) -> File:
        """Describe a file on disk for a manifest."""
        known = {"file_path": f"file://{path}", "file_format": "PARQUET", "record_count": rows}
        size = path.stat().st_size if path.exists() else 1
        return known | {"file_size_in_bytes": size, "block_size_in_bytes": 67_108_864, "partition": {}} | more

    def rows(self, *rows: Mapping[str, Any] | tuple[Any, ...], **options: Any) -> File:
        """Write rows of an id and a text, the columns of the default schema."""
        data = [(one["id"], one["s"]) if isinstance(one, Mapping) else one for one in rows]
        ids, texts = zip(*data, strict=True)
        table = pa.table({"id": pa.array(ids, pa.int64()), "s": pa.array(texts, pa.string())})
        return self.parquet(table, **options)

    def position_deletes(self, pairs: Sequence[tuple[File, int]], *, more: pa.Table | None = None) -> File:
        """Write a position delete file."""
        data = pa.table(
            {"file_path": [file["file_path"] for file, _ in pairs], "pos": pa.array([at for _, at in pairs], pa.int64())}
        )  # fmt: skip
        ids: list[int | None] = [2147483546, 2147483545]
        if more is not None:
            data, ids = (
                pa.table({**dict(zip(data.column_names, data.columns, strict=True)), "row": more}),
                [*ids, 2147483544, 1, 2],
            )
        return self.parquet(data, ids=ids) | {"content": 1}

    def equality_deletes(self, data: pa.Table, ids: Sequence[int], **more: Any) -> File:
        """Write an equality delete file."""
        return self.parquet(data, ids=ids) | {"content": 2, "equality_ids": list(ids)} | more

    def vectors(self, *deleted: tuple[File, Iterable[int]], size_in_footer: bool = True) -> list[File]:
        """Write deletion vectors into one Puffin file ("Deletion Vectors" of the Puffin specification)."""
        body, blobs, files = b"PFA1", [], []
        path = self.path(f"data/{next(self._count):05}.puffin")
        for file, positions in deleted:
            vector = b"\xd1\xd3\x39\x64" + BitMap64(positions).serialize()
            blob = struct.pack(">i", len(vector)) + vector + struct.pack(">I", zlib.crc32(vector))
            blobs.append({"type": "deletion-vector-v1", "offset": len(body), "length": len(blob), "fields": [],
                          "snapshot-id": -1, "sequence-number": -1,
                          "properties": {"referenced-data-file": file["file_path"]}})  # fmt: skip
            files.append({"content": 1, "file_path": f"file://{path}", "file_format": "PUFFIN", "partition": {},
                          "record_count": len(BitMap64(positions)), "referenced_data_file": file["file_path"],
                          "content_offset": len(body), "content_size_in_bytes": len(blob)})  # fmt: skip
            body += blob
        footer = json.dumps({"blobs": blobs, "properties": {"created-by": "another engine"}}).encode()
        end = struct.pack("<i", len(footer)) + bytes(4) + b"PFA1" if size_in_footer else b""
        path.write_bytes(body + b"PFA1" + footer + end)
        return [one | {"file_size_in_bytes": path.stat().st_size} for one in files]

    # -- manifests

    def manifest(
        self,
        *files: File,
        spec: int | None = None,
        content: int = 0,
        status: int = 1,
        drop: Iterable[str] = (),
        extra: Sequence[tuple[Json, Any]] = (),
        codec: str = "deflate",
        sequence: int | None = None,
        version: int | None = None,
        header: Mapping[str, str] | None = None,
        per_block: int = 1000,
    ) -> Json:
        """Write a manifest; returns its record in a manifest list.

        Args:
            files: Its data or delete files.
            spec: Position of its partition spec; by default the current one.
            content: 0: data; 1: deletes.
            status: Status of the entries; a file's own ``status`` counts first.
            drop: Fields of ``data_file`` that are not written.
            extra: Further fields of ``data_file``, each with its value.
            codec: The Avro codec.
            sequence: Data sequence number; default: that of the snapshot.
            version: Format version of the manifest; default: the table's.
            header: Further keys of the Avro header.
            per_block: Entries of an Avro block.
        """
        spec = len(self.specs) if spec is None else spec
        version = version or self.version
        parts = self.spec if spec == len(self.specs) else self.specs[spec]["fields"]
        unwanted = set(drop) | {name for name, since in SINCE.items() if since > version}
        if version > 1:
            unwanted.add("block_size_in_bytes")
        fields = []
        for name, (number, kind) in FILE_FIELDS.items():
            if name not in unwanted:
                kind = self._partition(parts) if name == "partition" else kind  # noqa: PLW2901
                fields.append({"name": name, "type": kind, "field-id": number})
        fields += [one for one, _ in extra]
        added = {one["name"]: value for one, value in extra}
        entry = [
            {"name": "status", "type": "int", "field-id": 0},
            {"name": "snapshot_id", "type": optional("long"), "field-id": 1},
            *([{"name": "sequence_number", "type": optional("long"), "field-id": 3},
               {"name": "file_sequence_number", "type": optional("long"), "field-id": 4}] if version > 1 else []),
            {"name": "data_file", "type": {"type": "record", "name": "r2", "fields": fields}, "field-id": 2},
        ]  # fmt: skip
        records = []
        for file in files:
            known = {"content": content} | {name: _maps(value) for name, value in file.items()} | added
            own = file.get("status", status)
            numbers = (
                {} if own == 1 else {"sequence_number": sequence or 1, "file_sequence_number": sequence or 1}
            )
            records.append(
                {"status": own, "snapshot_id": 7, "data_file": known} | numbers | file.get("entry", {})
            )
        path = self.path(f"metadata/{next(self._count):05}-m0.avro")
        schema = {"type": "struct", "schema-id": len(self.schemas), "fields": self.fields}
        meta = {"schema": json.dumps(schema), "partition-spec": json.dumps(parts), "partition-spec-id": str(spec),
                "format-version": str(version), "content": "deletes" if content else "data"}  # fmt: skip
        avro_schema = {"type": "record", "name": "manifest_entry", "fields": entry}
        size = avro.write(
            path, avro_schema, records, meta | dict(header or {}), codec=codec, per_block=per_block
        )
        return {
            "manifest_path": f"file://{path}", "manifest_length": size, "partition_spec_id": spec, "content": content,
            "sequence_number": sequence, "min_sequence_number": sequence, "added_snapshot_id": 7,
            "added_files_count": len(records), "existing_files_count": 0, "deleted_files_count": 0,
            "added_rows_count": sum(one["record_count"] for one in files), "existing_rows_count": 0,
            "deleted_rows_count": 0,
        }  # fmt: skip

    def _partition(self, parts: Sequence[Json]) -> Json:
        if self.partition_schema is not None:
            return self.partition_schema
        fields = [
            {
                "name": one["name"].replace("-", "_x2D"),
                "type": optional(self._part_type(one)),
                "field-id": one["field-id"],
            }
            for one in parts
        ]
        return {"type": "record", "name": "r102", "fields": fields}

    def _part_type(self, one: Json) -> Any:
        if one["transform"].startswith(("bucket", "zorder")) or one["transform"] in {"year", "month", "hour"}:
            return "int"
        if one["transform"] == "day":
            return PARTITION_TYPES["date"]
        kinds = {
            column["id"]: column["type"]
            for column in [*_all(self.fields), *_all(c for s in self.schemas for c in s["fields"])]
        }
        return PARTITION_TYPES.get(kinds.get(one["source-id"], "int"), "int")

    # -- snapshots

    def snapshot(
        self,
        *manifests: Json,
        schema: int | None = NO_NAME - 1,
        inline: bool = False,
        list_version: int | None = None,
        fields: Iterable[int] | None = None,
        codec: str = "deflate",
        **more: Any,
    ) -> int:
        """Add a snapshot of these manifests, the current one; returns its id.

        Args:
            manifests: In the order of the manifest list.
            schema: Its ``schema-id``; default: that of the current schema; None: it has none.
            inline: Whether the snapshot names its manifests itself (version 1).
            list_version: Format version of the manifest list; default: the table's.
            fields: Ids of the fields of the manifest list; default: all of the version.
            codec: Codec of the manifest list.
            more: Further members of the snapshot.
        """
        number = len(self.snapshots) + 1
        found: Json = {
            "snapshot-id": 100 + number,
            "timestamp-ms": START_MS + number,
            "summary": {"operation": "append"},
        }
        if self.version > 1:
            found["sequence-number"] = number
        if number > 1:
            found["parent-snapshot-id"] = 99 + number
        if schema is not None:
            found["schema-id"] = len(self.schemas) if schema < 0 else schema
        for one in manifests:
            if one["sequence_number"] is None:
                one["sequence_number"] = one["min_sequence_number"] = number
        if inline:
            found["manifests"] = [one["manifest_path"] for one in manifests]
        else:
            version = list_version or self.version
            kept = [one for one in LIST_FIELDS if one[3] <= version and (fields is None or one[0] in fields)]
            avro_schema = {
                "type": "record",
                "name": "manifest_file",
                "fields": [{"name": name, "type": kind, "field-id": key} for key, name, kind, _ in kept],
            }
            path = self.path(f"metadata/snap-{100 + number}.avro")
            avro.write(path, avro_schema, list(manifests), {"format-version": str(version)}, codec=codec)
            found["manifest-list"] = f"file://{path}"
        self.snapshots.append(found | more)
        self.current = found["snapshot-id"]
        return found["snapshot-id"]

    def listed(self) -> list[Json]:
        """Return the manifests of the last :meth:`append`."""
        return self._manifests[-1]

    def append(self, *files: File, **options: Any) -> int:
        """Add a snapshot with one more manifest of these files, and those of the one before."""
        known = self._manifests[-1] if self._manifests else []
        made = [*known, self.manifest(*files, **options)]
        self._manifests.append(made)
        return self.snapshot(*made)

    _manifests: list[list[Json]] = attrs.field(factory=list)

    # -- the metadata file

    def metadata(self, **more: Any) -> Json:
        """Return the table's metadata as JSON; ``more`` replaces members, ``...`` leaves them out."""
        columns = [
            column["id"] for column in _all([*self.fields, *(c for s in self.schemas for c in s["fields"])])
        ]
        schema = {"type": "struct", "schema-id": len(self.schemas), "fields": self.fields}
        spec = {"spec-id": len(self.specs), "fields": self.spec}
        found: Json = {
            "format-version": self.version,
            "table-uuid": "00000000-0000-4000-8000-000000000001",
            "location": f"file://{self.folder}",
            "last-updated-ms": START_MS,
            "last-column-id": max(columns),
            "schemas": [*self.schemas, schema],
            "current-schema-id": len(self.schemas),
            "partition-specs": [*self.specs, spec],
            "default-spec-id": len(self.specs),
            "last-partition-id": max([999, *(one["field-id"] for one in self.spec)]),
            "sort-orders": [{"order-id": 0, "fields": []}],
            "default-sort-order-id": 0,
            "properties": self.properties,
            "snapshots": self.snapshots,
        }
        if self.version == 1:
            found |= {"schema": schema, "partition-spec": self.spec}
        else:
            found["last-sequence-number"] = len(self.snapshots)
        if self.version > 2:
            found["next-row-id"] = 1000
        if self.current is not None:
            found["current-snapshot-id"] = self.current
        if self.refs:
            found["refs"] = self.refs
        return {key: value for key, value in (found | more).items() if value is not ...}

    def write(self, name: str = "v1.metadata.json", *, packed: bool = False, **more: Any) -> str:
        """Write the metadata file; returns its location."""
        text = json.dumps(
            self.metadata(**{key.replace("_", "-"): value for key, value in more.items()})
        ).encode()
        path = self.path(f"metadata/{name}")
        path.write_bytes(gzip.compress(text) if packed else text)
        self.location = f"file://{path}"
        return self.location


def _all(fields: Iterable[Json]) -> Iterator[Json]:
    for one in fields:
        yield one
        yield from _inside(one["type"])


def _inside(kind: Any) -> Iterator[Json]:
    if not isinstance(kind, dict):
        return
    if kind["type"] == "struct":
        yield from _all(kind["fields"])
    elif kind["type"] == "list":
        yield {"id": kind["element-id"], "type": kind["element"]}
        yield from _inside(kind["element"])
    elif kind["type"] == "map":
        yield from ({"id": kind[f"{side}-id"], "type": kind[side]} for side in ("key", "value"))
        yield from itertools.chain(*(_inside(kind[side]) for side in ("key", "value")))


def _maps(value: Any) -> Any:
    """Return a map of an entry as Avro has it: a list of pairs."""
    if isinstance(value, dict) and value and all(isinstance(key, int) for key in value):
        return [{"key": key, "value": one} for key, one in value.items()]
    return value
