"""Read table metadata files as every release of Iceberg since 2019 has written them.

pyiceberg's models take what its own releases write. What a scan does not need is dropped before they see it,
and what first releases left out is filled in by the rules of that time.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import attrs
import pyarrow as pa
from pyiceberg.io import InputFile
from pyiceberg.table.metadata import TableMetadata

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.json_pieces import parse_json
from strata.tables.catalogs.unsupported import parse_metadata, refuse

MOST_BYTES = 64 << 20
"""Bytes of a metadata file, unpacked; a larger one is refused. Parsed, it takes up to 16 times as many."""

MOST_ITEMS = {
    "snapshots": 100_000,
    "snapshot-log": 200_000,
    "schemas": 10_000,
    "partition-specs": 10_000,
    "sort-orders": 10_000,
    "refs": 100_000,
    "properties": 100_000,
    "statistics": 100_000,
    "partition-statistics": 100_000,
}
"""Items of the lists and objects of a metadata file; with more in one of them it is refused."""

LARGE_BYTES = 1 << 20
"""Bytes of a metadata file from which one is parsed at a time: it takes many times as much memory."""

TURN_SECONDS = 20.0
"""Seconds that the parsing of a large file waits for the others."""

_one_large = threading.Lock()
_BUSY = Refused(
    Reason.UNAVAILABLE,
    "Large metadata files of other tables are being read; retry.",
    code="metadata_busy",
    retry_after=5,
)

FIRST_PARTITION_ID = 1000
"""Id of the first partition field where none are written: version 1 numbered them in order from here."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31
"""``zlib``'s code for a gzip header and a window of 32 KiB."""

SUMMARY = (
    "operation",
    *(f"total-{what}" for what in ("records", "data-files", "delete-files", "files-size")),
    *("total-position-deletes", "total-equality-deletes"),
    *("added-records", "deleted-records", "added-data-files", "deleted-data-files"),
)
"""Entries of a snapshot's summary that are kept (specification, "Optional Snapshot Summary Fields")."""

_LONGEST_ENTRY = 32
"""Most characters of an entry that are kept: operations are words, and counts have 64 bits."""

_DEEP = {"schemas": 3, "schema": 2}
"""Where the fields of schemas are: a table of 10,000 columns has a megabyte of them in one."""

_UNUSED = ("statistics", "partition-statistics", "metadata-log")
"""Keys without meaning for a scan; the values of the first two are open: any engine may add blob types."""


@attrs.frozen
class MetadataFile:
    """A parsed metadata file.

    Attributes:
        metadata: The table's metadata.
        manifests: Locations of the manifests of snapshots without a manifest list, by snapshot id.
        summaries: What the writers of snapshots noted of them, by snapshot id.
        nbytes: Bytes of the file, unpacked; 0 of a catalog's answer.
    """

    metadata: TableMetadata
    manifests: Mapping[int, tuple[str, ...]] = MappingProxyType({})
    summaries: Mapping[int, Mapping[str, str]] = MappingProxyType({})
    nbytes: int = 0


def read_metadata_file(source: InputFile) -> MetadataFile:
    """Read and parse a metadata file, plain or packed, whatever its name; blocking.

    The specification has gzip only; the Rust library packs with Zstandard, too.

    Raises:
        RefusalError: UNSUPPORTED for a view, for a format version that is not known, and beyond
            :data:`MOST_BYTES` or :data:`MOST_ITEMS`; UNAVAILABLE if a large file has no turn in time.
        Exception: Of many kinds, if the file is missing or damaged.
    """
    if len(source) > MOST_BYTES:
        _refuse_large()
    with source.open() as file:
        data = file.read()
    if data.startswith(_GZIP):
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        data = unpacker.decompress(data, MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            _refuse_large()
        if not unpacker.eof:
            raise ValueError("the unpacked file breaks off")
    elif data.startswith(_ZSTD):
        with pa.input_stream(pa.BufferReader(data), compression="zstd") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            _refuse_large()
    if len(data) <= LARGE_BYTES:
        return _parsed(data)
    if not _one_large.acquire(timeout=TURN_SECONDS):
        raise RefusalError(_BUSY)
    try:
        return _parsed(data)
    finally:
        _one_large.release()


def _parsed(data: bytes) -> MetadataFile:
    text = str(data, json.detect_encoding(data), "surrogatepass")
    return attrs.evolve(parse_metadata_json(parse_json(text, _DEEP)), nbytes=len(data))


def _refuse_large() -> NoReturn:
    refuse(f"its metadata has more than {MOST_BYTES} bytes; let its writers expire snapshots")


def parse_metadata_json(found: dict[str, Any]) -> MetadataFile:
    """Parse the JSON of a metadata file, or of a REST catalog's answer, which is changed.

    Raises:
        RefusalError: UNSUPPORTED for a view, for a format version that is not known, and beyond
            :data:`MOST_ITEMS`.
        Exception: Of many kinds, if it is damaged.
    """
    for key, most in MOST_ITEMS.items():
        items = found.get(key)
        if isinstance(items, list | dict) and len(items) > most:
            refuse(f"its metadata has more than {most} {key}")
    for key in _UNUSED:
        found.pop(key, None)
    for fields in _partition_fields(found):
        for place, field in enumerate(fields):
            field.setdefault("field-id", FIRST_PARTITION_ID + place)
    manifests, summaries = {}, {}
    for snapshot in found.get("snapshots") or ():
        summary = snapshot.pop("summary", None)
        if isinstance(summary, dict):
            summaries[int(snapshot["snapshot-id"])] = known_of_summary(summary)
        if "manifest-list" not in snapshot and "manifests" in snapshot:
            manifests[int(snapshot["snapshot-id"])] = tuple(snapshot.pop("manifests"))
            snapshot["manifest-list"] = ""
    return MetadataFile(parse_metadata(found), manifests, summaries)


def known_of_summary(summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the entries of a snapshot's summary that describe it, without those of its writer's own."""
    kept = {key: str(summary[key])[:_LONGEST_ENTRY] for key in SUMMARY if summary.get(key) is not None}
    return MappingProxyType(kept)


def _partition_fields(found: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    for spec in found.get("partition-specs") or ():
        yield spec["fields"]
    if found.get("partition-spec"):
        yield found["partition-spec"]
