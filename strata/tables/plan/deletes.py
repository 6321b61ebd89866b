"""Find the delete files of a data file (Iceberg specification, "Scan Planning").

Pure: built from manifest entries, reads no file. A delete applies to a data file of the same partition if the
data file's sequence number is at most the delete's (position deletes, deletion vectors) or below it (equality
deletes). An equality delete with an unpartitioned spec applies to all partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import VoidTransform

from strata.tables.plan.manifests import PATH_FIELD_ID, Entry


@attrs.frozen
class DeleteFile:
    """A delete file as it applies to one data file.

    Attributes:
        path: Location.
        size: Bytes.
        file_format: ``PARQUET``, ``PUFFIN`` …
        content_offset: Byte offset of the deletion vector; ``None`` for a whole file.
        content_size: Length of the deletion vector in bytes.
        equality_ids: Field ids an equality delete compares; empty for position deletes.
    """

    path: str
    size: int
    file_format: str
    content_offset: int | None = None
    content_size: int | None = None
    equality_ids: tuple[int, ...] = ()


class DeleteIndex:
    """Index of the delete files of a table by data file and partition.

    Args:
        specs: The table's partition specs by id.
    """

    def __init__(self, specs: Mapping[int, PartitionSpec]) -> None:
        self._specs = specs
        self._by_path: dict[str, list[Entry]] = {}
        self._by_partition: dict[object, list[Entry]] = {}
        self._global: list[Entry] = []
        self._made: dict[int, DeleteFile] = {}  # by the entry's identity, for all data files
        self._checked = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Add delete files."""
        for entry in entries:
            target = referenced_data_file(entry)
            spec = self._specs.get(entry.spec_id)
            if entry.content == DataFileContent.EQUALITY_DELETES and _is_global(spec):
                self._global.append(entry)
            elif target is not None:
                self._by_path.setdefault(target, []).append(entry)
            else:
                self._by_partition.setdefault(partition_key(entry), []).append(entry)

    def for_data_file(self, data: Entry) -> tuple[DeleteFile, ...]:
        """Return the delete files that apply to ``data``, ordered by path and offset."""
        same_partition = self._by_partition.get(partition_key(data), ())
        candidates = (
            *self._by_path.get(data.path, ()),
            *(entry for entry in same_partition if _may_name(entry, data.path)),
            *self._global,
        )
        self._checked += len(same_partition) + len(candidates)
        found = [self._file_of(entry) for entry in candidates if _is_later(entry, data)]
        return tuple(sorted(found, key=lambda file: (file.path, file.content_offset or 0)))

    def _file_of(self, entry: Entry) -> DeleteFile:
        made = self._made.get(id(entry))
        if made is None:
            made = self._made[id(entry)] = _delete_file(entry)
        return made

    def take_checked(self) -> int:
        """Return the number of checks of a delete against a data file since the last call."""
        checked, self._checked = self._checked, 0
        return checked


def referenced_data_file(entry: Entry) -> str | None:
    """Return the only data file a position delete applies to; ``None`` if unknown."""
    if entry.content != DataFileContent.POSITION_DELETES:
        return None
    if entry.referenced_data_file is not None:
        return entry.referenced_data_file
    bounds = _path_bounds(entry)
    if bounds is None or bounds[0] != bounds[1]:
        return None
    try:
        return bounds[0].decode()
    except UnicodeDecodeError:
        return None


def partition_key(entry: Entry) -> object:
    """Return a hashable key of the entry's partition in which NaN equals NaN."""
    return entry.spec_id, tuple(_partition_value(value) for value in entry.partition)


def _partition_value(value: Any) -> object:
    is_nan = isinstance(value, float) and value != value  # noqa: PLR0124 - NaN is the one number unequal to itself
    return "nan" if is_nan else (type(value).__name__, value)


def _is_global(spec: PartitionSpec | None) -> bool:
    """Whether a spec has one partition: no fields, or only void ones (Iceberg's ``isUnpartitioned``)."""
    return spec is not None and all(isinstance(field.transform, VoidTransform) for field in spec.fields)


def _is_later(delete: Entry, data: Entry) -> bool:
    if delete.content == DataFileContent.EQUALITY_DELETES:
        return data.sequence_number < delete.sequence_number
    return data.sequence_number <= delete.sequence_number


def _may_name(delete: Entry, path: str) -> bool:
    if delete.content != DataFileContent.POSITION_DELETES:
        return True
    bounds = _path_bounds(delete)
    return bounds is None or bounds[0] <= path.encode() <= bounds[1]


def _path_bounds(entry: Entry) -> tuple[bytes, bytes] | None:
    if entry.metrics is None:
        return None
    lower, upper = entry.metrics.lower.get(PATH_FIELD_ID), entry.metrics.upper.get(PATH_FIELD_ID)
    return None if lower is None or upper is None else (bytes(lower), bytes(upper))


def _delete_file(entry: Entry) -> DeleteFile:
    return DeleteFile(
        path=entry.path,
        size=entry.size,
        file_format=FileFormat(entry.file_format).value,
        content_offset=entry.content_offset,
        content_size=entry.content_size,
        equality_ids=entry.equality_ids,
    )
