"""Avro files of one kind, read without working the same header out again for every file.

Nine tenths of the time it takes to read a small manifest go into parsing its Avro schema and resolving it
against the reader's, and all manifests that one writer made for one table have the same.
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
"""Reads the head of any Avro file; pyiceberg makes one for each."""

SCHEMAS = 256
"""Writers' schemas that are remembered."""


@attrs.frozen(eq=False)
class AvroKind(Generic[D]):
    """What the files of one kind hold.

    Attributes:
        schema: The reader's schema.
        types: Classes of records by field id; -1 is the top one.
        enums: Enumerations by field id.
    """

    schema: Schema
    types: Mapping[int, Callable[..., StructProtocol]]
    enums: Mapping[int, Callable[..., Enum]]

    def read(self, file: InputFile) -> _KnownFile[D]:
        """Return the records of a file; a context manager and an iterator, as pyiceberg's."""
        return _KnownFile(file, self)


class _KnownFile(AvroFile[D]):
    """An Avro file whose reader is looked up by the schema in its header."""

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
    """Return the reader of files with ``schema``; readers keep no state, so threads share them."""
    written = AvroFileHeader(None, {"avro.schema": schema}, None).get_schema()
    return resolve_reader(written, kind.schema, dict(kind.types), dict(kind.enums))
