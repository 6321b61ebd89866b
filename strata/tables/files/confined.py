"""Confine the files of a warehouse to the warehouse's directory.

A table's metadata may name any file, which the server would open with its own rights: a writer of one table
could read another warehouse's files, or any Parquet file of the machine, past the access rules.
"""

from __future__ import annotations

import os

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from strata.outcomes import Reason, RefusalError, Refused


class ConfinedFileIO(PyArrowFileIO):
    """File I/O that opens local files below one directory only, with symbolic links resolved.

    Args:
        root: The directory, with its own links resolved.
    """

    def __init__(self, root: str) -> None:
        super().__init__({})
        self._root = root

    def new_input(self, location: str) -> PyArrowFile:
        """Return the input file at ``location`` (see :class:`pyiceberg.io.FileIO`).

        Raises:
            RefusalError: DATA_UNREADABLE if the file lies outside the directory.
        """
        return PyArrowFile(location, self.local_path(location), self.fs_by_scheme("file", ""))

    def local_path(self, location: str) -> str:
        """Return the local path of ``location``.

        Raises:
            RefusalError: DATA_UNREADABLE if the file lies outside the directory.
        """
        scheme, _, path = self.parse_location(location, self.properties)
        if scheme == "file" and os.path.realpath(path).startswith(f"{self._root}{os.sep}"):
            return path
        name = location.rstrip("/").rpartition("/")[2]
        detail = f"The table names the file {name}, which lies outside its warehouse"
        raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="file_outside_warehouse"))
