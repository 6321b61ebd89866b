"""Parts of paths that are more than text."""

from __future__ import annotations

from typing import Any

from werkzeug.routing import BaseConverter, PathConverter

from strata.http.door.routing import VERSION

MAX_VERSION = 10**18 - 1
"""Largest version in a path: more than there will be, and less than the metadata store's largest integer."""


class VersionConverter(BaseConverter):
    """The version of an artifact, spelled as :data:`~strata.http.door.routing.VERSION`.

    Werkzeug's own converter of integers also takes the digits of other scripts, and any number of them.
    """

    regex = VERSION

    def to_python(self, value: str) -> int:
        """Return the number."""
        return int(value)

    def to_url(self, value: Any) -> str:
        """Return the path's part."""
        return str(value)


class NameConverter(PathConverter):
    """A name of a result, which may have slashes; ``/aliases`` and what follows are not part of it."""

    regex = r"[^/](?:(?!/aliases(?:/|\Z)).)*?"
