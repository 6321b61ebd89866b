"""Confine the files of a warehouse to the warehouse's directory.

A table's metadata may name any file, which the server would open with its own rights: a writer of one table
could read another warehouse's files, or any Parquet file of the machine, past the access rules.
"""

from __future__ import annotations

import os
from typing import Any

from pyiceberg.io import FileIO, InputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from strata.outcomes import Reason, RefusalError, Refused
from strata.regular_files import OutsideError, as_arrow_file, open_below, open_regular
from strata.tables.files.locations import LiteralFileIO


class LocalFileIO(LiteralFileIO):
    """File I/O that opens regular local files only, and other files as its base class does."""

    def new_input(self, location: str) -> InputFile:  # type: ignore[override]  # no path that could be opened later
        """Return the input file at ``location`` (see :class:`pyiceberg.io.FileIO`)."""
        return _LocalFile(location, self) if self.is_local(location) else super().new_input(location)

    def is_local(self, location: str) -> bool:
        """Test whether ``location`` is a local file, read without network round trips."""
        return self.parse_location(location, self.properties)[0] == "file"

    def open_local(self, location: str) -> Any:
        """Return the local file at ``location``, open for random access; the caller closes it.

        Raises:
            RefusalError: As :meth:`open_descriptor`.
            OSError: If the file is missing, not readable or not a regular file.
        """
        return as_arrow_file(self.open_descriptor(location))

    def open_descriptor(self, location: str) -> int:
        """Return a descriptor of the local file at ``location``; the caller closes it.

        Raises:
            RefusalError: DATA_UNREADABLE if the file lies outside of its directory.
            OSError: If the file is missing, not readable or not a regular file.
        """
        path, below = self.place(location)
        if below is None:
            return open_regular(path, follow=True)
        try:
            return open_below(path, below)
        except OutsideError:
            raise outside(location) from None

    def place(self, location: str) -> tuple[str, str | None]:
        """Return the path of a local file, and below which directory it must be; None: anywhere.

        Raises:
            RefusalError: DATA_UNREADABLE if the location names no local file.
        """
        return self.parse_location(location, self.properties)[2], None


class ConfinedFileIO(LocalFileIO):
    """File I/O that opens local files below one directory only, with symbolic links resolved.

    Args:
        root: The directory, with its own links resolved.
    """

    def __init__(self, root: str) -> None:
        super().__init__({})
        self.root = root
        self._below = f"{root.rstrip(os.sep)}{os.sep}"

    def new_input(self, location: str) -> InputFile:  # type: ignore[override]  # as its base class
        """Return the input file at ``location`` (see :class:`pyiceberg.io.FileIO`); opening it is checked."""
        return _LocalFile(location, self)

    def is_local(self, location: str) -> bool:  # noqa: ARG002  # it opens no other files
        """Return True: a location that is not local is refused."""
        return True

    def place(self, location: str) -> tuple[str, str | None]:
        """See :meth:`LocalFileIO.place`."""
        scheme, _, path = self.parse_location(location, self.properties)
        if scheme != "file":
            raise outside(location)
        return path, self._below


class _LocalFile(InputFile):
    """Input file that is checked at each opening."""

    def __init__(self, location: str, io: LocalFileIO) -> None:
        super().__init__(location)
        self._io = io

    def __len__(self) -> int:
        with self._io.open_local(self.location) as file:
            return int(file.size())

    def exists(self) -> bool:
        """Whether the file can be opened."""
        try:
            self._io.open_local(self.location).close()
        except OSError:
            return False
        return True

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002  # pyiceberg's signature
        """Return the open file; the caller closes it."""
        return self._io.open_local(self.location)


def regular(io: FileIO) -> FileIO:
    """Return file I/O that opens regular local files, in the place of pyiceberg's own through Arrow."""
    return LocalFileIO(io.properties) if type(io) is PyArrowFileIO else io


def outside(location: str) -> RefusalError:
    """Return the refusal of a file that lies outside its warehouse."""
    name = location.rstrip("/").rpartition("/")[2]
    detail = f"The table names the file {name}, which lies outside its warehouse"
    return RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="file_outside_warehouse"))
