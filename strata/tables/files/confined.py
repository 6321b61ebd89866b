"""Files of a warehouse that is a directory: only those in it.

A table's metadata names its files wherever its writer likes, and the server would open them with its own
rights: whoever may write one table could read another warehouse's files, or any Parquet file of the machine,
past the access rules.
"""

from __future__ import annotations

import os

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from strata.outcomes import Reason, RefusalError, Refused


class ConfinedFileIO(PyArrowFileIO):
    """Opens local files below one directory, symbolic links resolved, and nothing else.

    Args:
        root: The directory, with its own links resolved.
    """

    def __init__(self, root: str) -> None:
        super().__init__({})
        self._root = root

    def new_input(self, location: str) -> PyArrowFile:
        """See :class:`pyiceberg.io.FileIO`.

        Raises:
            RefusalError: DATA_UNREADABLE if the file lies elsewhere.
        """
        return PyArrowFile(location, self.local_path(location), self.fs_by_scheme("file", ""))

    def local_path(self, location: str) -> str:
        """Return the path of a file.

        Raises:
            RefusalError: DATA_UNREADABLE if it lies elsewhere.
        """
        scheme, _, path = self.parse_location(location, self.properties)
        if scheme == "file" and os.path.realpath(path).startswith(f"{self._root}{os.sep}"):
            return path
        name = location.rstrip("/").rpartition("/")[2]
        detail = f"The table names the file {name}, which lies outside of its warehouse"
        raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="file_outside_warehouse"))
