"""File I/O on local files that counts as a remote store, counts its reads and falls silent when told to."""

from __future__ import annotations

import threading
from typing import Any

from pyiceberg.io.pyarrow import PyArrowFileIO


class StoreIO(PyArrowFileIO):
    """Reads local files as a store would.

    Attributes:
        opened: The files opened, by the last component of their locations.
        silent: Names with one of these endings do not answer until :attr:`over`.
        over: Set when the silence is over.
        waiting: Released once for each call that waits.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.opened: list[str] = []
        self.silent: tuple[str, ...] = ()
        self.over = threading.Event()
        self.waiting = threading.Semaphore(0)

    def new_input(self, location: str) -> Any:
        """Return the file once the store answers."""
        self.opened.append(location.rpartition("/")[2])
        if self.silent and location.endswith(self.silent):
            self.waiting.release()
            assert self.over.wait(100)
        return super().new_input(location)
