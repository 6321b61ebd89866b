"""Read Avro files with cached readers.

Nine tenths of the time to read a small manifest go into parsing its Avro schema and resolving it against the
reader's, and the manifests that one writer made for one table share their schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, Self, TypeVar

import attrs
from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import META_SCHEMA, AvroFile, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.io import InputFile
from pyiceberg.schema import Schema
from pyiceberg.typedef import StructProtocol

D = TypeVar("D", bound=StructProtocol)

_HEADER = construct_reader(META_SCHEMA, {-1: AvroFileHeader})
"""Reads the header of any Avro file; pyiceberg builds this reader anew for each file."""

SCHEMAS = 256
"""Writer schemas with a cached reader; beyond, the least recently used goes."""


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

    def read(self, file: InputFile) -> _KnownFile[D]:
        """Return a context manager and iterator over the records of a file, as pyiceberg's ``AvroFile``."""
        return _KnownFile(file, self)


class _KnownFile(AvroFile[D]):
    """Avro file with a reader cached by the schema in the file's header."""

    def __init__(self, file: InputFile, kind: AvroKind[D]) -> None:
        super().__init__(file, kind.schema, dict(kind.types), dict(kind.enums))
        self._kind = kind

    def __enter__(self) -> Self:
        with self.input_file.open() as file:
            self.decoder = new_decoder(file.read())
        self.header = _HEADER.read(self.decoder)
        self.reader = _reader(self._kind, self.header.meta.get("avro.schema", ""))
        return self


@lru_cache(SCHEMAS)
def _reader(kind: AvroKind[Any], schema: str) -> Reader:
    """Return the reader of files with ``schema``; readers are stateless, so threads share them."""
    written = AvroFileHeader(None, {"avro.schema": schema}, None).get_schema()
    return resolve_reader(written, kind.schema, dict(kind.types), dict(kind.enums))
