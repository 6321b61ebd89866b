"""Open a table's files with the credentials that its REST catalog vends, each file with those of its place.

A catalog may vend several credentials, each for a prefix of locations; the one with the longest prefix counts
(Iceberg REST catalog specification, ``StorageCredential``). They end, perhaps in the middle of a scan: a file
that cannot be read with them is read once more with new ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs
from pyiceberg.io import InputFile

from strata.tables.files.confined import LocalFileIO

T = TypeVar("T")


@attrs.frozen
class Vended:
    """What a catalog vends for a table's files.

    Attributes:
        properties: Properties for all files: the operator's and the catalog's.
        by_prefix: Further properties for the locations that begin with a prefix.
    """

    properties: Mapping[str, str] = attrs.field(repr=False)
    by_prefix: Sequence[tuple[str, Mapping[str, str]]] = attrs.field(repr=False, default=())

    def prefix_of(self, location: str) -> str:
        """Return the longest prefix of a location that has properties of its own; empty if there is none."""
        found = (prefix for prefix, _ in self.by_prefix if location.startswith(prefix))
        return max(found, key=len, default="")

    def for_prefix(self, prefix: str) -> dict[str, str]:
        """Return the properties for the files of a prefix."""
        own = next((properties for known, properties in self.by_prefix if known == prefix), {})
        return {**self.properties, **own}


class VendedFileIO(LocalFileIO):
    """File I/O with the credentials of each file's place, renewed when a file cannot be read with them.

    Args:
        vended: What the catalog has vended.
        location: Location of the table's metadata file, whose properties are the I/O's own.
        renew: Asks the catalog for new credentials; blocking.
    """

    def __init__(self, vended: Vended, location: str, renew: Callable[[], Vended]) -> None:
        super().__init__(vended.for_prefix(vended.prefix_of(location)))
        self._vended = vended
        self._renew = renew
        self._opened: dict[str, LocalFileIO] = {}
        self._lock = threading.Lock()

    def new_input(self, location: str) -> InputFile:  # type: ignore[override]  # as its base class
        """Return the input file at ``location`` (see :class:`pyiceberg.io.FileIO`)."""
        return super().new_input(location) if self.is_local(location) else _VendedFile(location, self)

    def io_of(self, location: str) -> tuple[LocalFileIO, Vended]:
        """Return the file I/O for a location, and the credentials that it has."""
        with self._lock:
            vended = self._vended
            prefix = vended.prefix_of(location)
            found = self._opened.get(prefix)
            if found is None:
                found = self._opened[prefix] = LocalFileIO(vended.for_prefix(prefix))
        return found, vended

    def renew(self, failed: Vended) -> None:
        """Replace credentials that failed, unless another thread has done so.

        Raises:
            RefusalError: If the catalog does not vend new ones.
        """
        if self._vended is not failed:
            return
        fresh = self._renew()
        with self._lock:
            if self._vended is failed:
                self._vended, self._opened = fresh, {}


class _VendedFile(InputFile):
    """A file in an object store; each attempt to reach it may need new credentials."""

    def __init__(self, location: str, io: VendedFileIO) -> None:
        super().__init__(location)
        self._io = io

    def __len__(self) -> int:
        return self._twice(len)

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self._twice(lambda file: file.exists())

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002  # pyiceberg's signature
        """Return the open file; the caller closes it."""
        return _VendedSource(self)

    def opened(self) -> Any:
        """Open the file in the store."""
        return self._twice(lambda file: file.open())

    def renew(self, failed: Vended) -> None:
        """Replace credentials that failed (see :meth:`VendedFileIO.renew`)."""
        self._io.renew(failed)

    @property
    def vended(self) -> Vended:
        """The credentials of the moment."""
        return self._io.io_of(self.location)[1]

    def _twice(self, call: Callable[[InputFile], T]) -> T:
        io, vended = self._io.io_of(self.location)
        try:
            return call(io.new_input(self.location))
        except FileNotFoundError:
            raise
        except OSError:
            self._io.renew(vended)
        return call(self._io.io_of(self.location)[0].new_input(self.location))


class _VendedSource:
    """An open file that is opened anew, with new credentials, when a read fails.

    Attributes:
        closed: Whether :meth:`close` was called.
        mode: As of Python's files.
    """

    mode = "rb"

    def __init__(self, file: _VendedFile) -> None:
        self.closed = False
        self._file = file
        self._vended = file.vended
        self._source = file.opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _cause: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()

    def size(self) -> int:
        """Return the file's bytes."""
        return int(self._source.size())

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, at most ``count``; all if it is negative."""
        at = self._source.tell()
        try:
            return self._read(count)
        except OSError:
            self._file.renew(self._vended)
        self._source.close()
        self._vended = self._file.vended
        self._source = self._file.opened()
        self._source.seek(at)
        return self._read(count)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of the next read; returns it."""
        return int(self._source.seek(position, whence))

    def tell(self) -> int:
        """Return the position of the next read."""
        return int(self._source.tell())

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._source.close()

    def _read(self, count: int) -> bytes:
        return bytes(self._source.read() if count < 0 else self._source.read(count))
