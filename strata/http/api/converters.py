"""Parts of paths that are more than text."""

from __future__ import annotations

from typing import Any

from werkzeug.routing import BaseConverter

MAX_VERSION = 10**18 - 1
"""More than there will be, and less than the largest integer of the metadata store."""


class VersionConverter(BaseConverter):
    """The version of an artifact, in its one spelling: ASCII digits without leading zeros.

    Werkzeug's own converter of integers also takes the digits of other scripts, and any number of them.
    """

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        """Return the number."""
        return int(value)

    def to_url(self, value: Any) -> str:
        """Return the path's part."""
        return str(value)
