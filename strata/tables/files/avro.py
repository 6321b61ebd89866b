"""Read Avro files with cached readers.

Nine tenths of the time to read a small manifest go into parsing its Avro schema and resolving it against the
reader's, and the manifests that one writer made for one table share their schema.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

import attrs
from pyiceberg.avro.codecs import AVRO_CODEC_KEY
from pyiceberg.avro.file import META_SCHEMA, SYNC_SIZE, AvroFile, AvroFileHeader, Block
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import ReadSchemaResolver, SchemaPartnerAccessor, construct_reader
from pyiceberg.io import InputFile
from pyiceberg.schema import Schema, visit_with_partner
from pyiceberg.typedef import StructProtocol
from pyiceberg.types import IcebergType, StructType

from strata.tables.errors import EncryptedError
from strata.tables.files.avro_codecs import unpack
from strata.tables.files.avro_decoder import BoundedDecoder

D = TypeVar("D", bound=StructProtocol)
_Type: TypeAlias = IcebergType | None

_HEADER = construct_reader(META_SCHEMA, {-1: AvroFileHeader})
"""Reads the header of any Avro file; pyiceberg builds this reader anew for each file."""

ENCRYPTED = b"AGS1"
"""First bytes of a file that is encrypted (Iceberg specification, "AES GCM Stream file format")."""

SCHEMAS = 256
"""Writer schemas with a cached reader; beyond, the least recently used goes."""

HEADERS = 16
"""Headers that are kept, of :data:`HEADER_BYTES` at most; parsing one takes as long as a few entries."""

HEADER_BYTES = 64 << 10


@attrs.frozen(eq=False)
class AvroKind(Generic[D]):
    """Schema and classes of one kind of Avro file.

    Attributes:
        schema: The reader's schema.
        types: Record classes by field id; -1 is the top-level record.
        enums: Enumerations by field id.
    """

    schema: Schema
    types: Mapping[int, Callable[..., StructProtocol]]
    enums: Mapping[int, Callable[..., Enum]]

    def read(self, file: InputFile, length: int = 0) -> _KnownFile[D]:
        """Return a context manager and iterator over the records of a file, as pyiceberg's ``AvroFile``.

        Args:
            file: The file.
            length: Bytes it has at least: a file cut after a block looks whole.
        """
        return _KnownFile(file, self, length)


class _KnownFile(AvroFile[D]):
    """Avro file with a reader cached by the schema in the file's header."""

    def __init__(self, file: InputFile, kind: AvroKind[D], length: int) -> None:
        super().__init__(file, kind.schema, dict(kind.types), dict(kind.enums))
        self._kind = kind
        self._length = length
        self._records = BoundedDecoder(b"")

    def __enter__(self) -> Self:
        with self.input_file.open() as file:
            data = file.read()
        if data.startswith(ENCRYPTED):
            raise EncryptedError
        if len(data) < self._length:
            raise ValueError(f"the file has {len(data)} of its {self._length} bytes")
        self.decoder = self._blocks = BoundedDecoder(data)
        self.header = _header(data, self._blocks)
        self.reader = _reader(self._kind, self._written)
        return self

    @property
    def _written(self) -> str:
        """The writer's schema, as it stands in the file."""
        return self.header.meta.get("avro.schema", "")

    def field_ids(self, *path: int) -> tuple[int, ...]:
        """Return the ids of the fields written of a struct, in order; empty: no such struct was.

        Args:
            path: Ids of the fields from a record down to the struct.
        """
        return _field_ids(self._written, path)

    def __next__(self) -> D:
        """Return the next record.

        pyiceberg takes a file that breaks off in a block for one that ends before it.
        """
        while self.block is None or not self.block.has_next():
            self._begin_block()
        return next(self.block)

    def _begin_block(self) -> None:
        if self.block is not None:
            if self._records.left:
                raise ValueError(f"a block has {self._records.left} bytes after its last record")
            if self.decoder.read(SYNC_SIZE) != self.header.sync:
                raise ValueError("a block does not end with the file's marker")
        if not self._blocks.left:
            raise StopIteration
        number = self.decoder.read_int()
        packed = self.decoder.read_bytes()
        self._records = BoundedDecoder(unpack(self.header.meta.get(AVRO_CODEC_KEY, "null"), packed))
        self.block = Block(self.reader, number, self._records)


_headers: deque[tuple[bytes, AvroFileHeader]] = deque(maxlen=HEADERS)


def _header(data: bytes, decoder: BoundedDecoder) -> AvroFileHeader:
    """Return a file's header, which the decoder passes; manifests of one writer differ in the marker only."""
    for known, header in tuple(_headers):
        if data.startswith(known) and len(data) >= len(known) + SYNC_SIZE:
            decoder.skip(len(known))
            return AvroFileHeader(header.magic, header.meta, decoder.read(SYNC_SIZE))
    found = cast("AvroFileHeader", _HEADER.read(decoder))
    end = decoder.tell() - SYNC_SIZE
    if end <= HEADER_BYTES:
        _headers.appendleft((data[:end], found))
    return found


@lru_cache(SCHEMAS)
def _reader(kind: AvroKind[Any], schema: str) -> Reader:
    """Return the reader of files with ``schema``; readers are stateless, so threads share them."""
    resolver = ReadSchemaResolver(dict(kind.types), dict(kind.enums))
    # Any: the signature of pyiceberg's visitor allows no type of partner.
    found: Reader = cast("Any", visit_with_partner)(_parsed(schema), kind.schema, resolver, _Partners())
    return found


class _Partners(SchemaPartnerAccessor):
    """Finds the reader's type of each of the writer's, none below a field that the reader does not know.

    pyiceberg raises for structs, lists and maps there.
    """

    def field_partner(self, partner: _Type, field_id: int, field_name: str) -> _Type:
        """Return the type of a struct's field."""
        return None if partner is None else super().field_partner(partner, field_id, field_name)

    def list_element_partner(self, partner_list: _Type) -> _Type:
        """Return the type of a list's elements."""
        return None if partner_list is None else super().list_element_partner(partner_list)

    def map_key_partner(self, partner_map: _Type) -> _Type:
        """Return the type of a map's keys."""
        return None if partner_map is None else super().map_key_partner(partner_map)

    def map_value_partner(self, partner_map: _Type) -> _Type:
        """Return the type of a map's values."""
        return None if partner_map is None else super().map_value_partner(partner_map)


@lru_cache(SCHEMAS)
def _parsed(schema: str) -> Schema:
    written = AvroFileHeader(None, {"avro.schema": json.dumps(_spelt_out(json.loads(schema), {}))}, None)
    return written.get_schema()


def _spelt_out(kind: Any, known: dict[str, Any]) -> Any:
    """Return a schema in which types of a fixed size stand in the place of their names.

    A type is defined once, and later fields may name it (Avro specification, "Names"): two partition fields
    of one decimal type do. pyiceberg knows no names. Names of records stay: a schema that mentions records in
    records would grow exponentially.

    Args:
        kind: The schema, as JSON.
        known: The types so far by name.
    """
    match kind:
        case str():
            return known.get(kind, kind)
        case list():
            return [_spelt_out(one, known) for one in kind]
        case {"type": "fixed", "name": str(name)}:
            known[name] = kind
            known[f"{kind.get('namespace', '')}.{name}".lstrip(".")] = kind
            return kind
        case {"type": "record", "fields": list(fields)}:
            return kind | {"fields": [_spelt_out(one, known) for one in fields]}
        case {"type": inner, **rest}:
            inside = {key: _spelt_out(rest[key], known) for key in ("items", "values") if key in rest}
            return kind | {"type": _spelt_out(inner, known)} | inside
    return kind


@lru_cache(SCHEMAS)
def _field_ids(schema: str, path: tuple[int, ...]) -> tuple[int, ...]:
    struct: Any = _parsed(schema)
    for step in path:
        struct = next((field.field_type for field in struct.fields if field.field_id == step), StructType())
    return tuple(field.field_id for field in struct.fields)
