"""Take locations of files literally: ``#`` and ``?`` are characters of a path, not marks of a URL.

pyiceberg cuts a location at them, so that one file's rows would be read as another's. Writers put file names
into locations as they are.
"""

from __future__ import annotations

import re

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

_MARK = re.compile("[#?]")


class LiteralFileIO(PyArrowFileIO):
    """File I/O of pyiceberg through Arrow, with locations taken literally."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """Return scheme, network location and path as pyiceberg does, without cutting the path."""
        mark = _MARK.search(location)
        if mark is None or ":/" not in location[: mark.start()]:  # pyiceberg cuts URLs only
            return PyArrowFileIO.parse_location(location, properties)
        scheme, host, path = PyArrowFileIO.parse_location(location[: mark.start()], properties)
        return scheme, host, path + location[mark.start() :]
