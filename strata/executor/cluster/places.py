"""Decide which files a table that is read by reference may name: those of its warehouse, or its own.

A table's writers choose the locations in its metadata and manifests. The executor opens them with its own
rights, so each is checked before it is opened: below the warehouse's directory that the server names, or,
where it names none, below the directory of the table that the catalog points at.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

import attrs

DECODINGS: Final = 4
"""How often a location is decoded in the search for ``..``; one that can be decoded more often is refused."""

_METADATA: Final = re.compile(r"(/.+)/metadata/[^/]+")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


class OutsidePlaceError(Exception):
    """A location is not where the table's files may be; the message does not repeat it."""


@attrs.frozen
class Place:
    """Where the files of a table may be.

    Attributes:
        scheme: Of their locations.
        store: The bucket or host; empty for local files.
        prefix: The path without a slash at its end; of local files with links resolved.
    """

    scheme: str
    store: str
    prefix: str

    def check(self, location: str) -> None:
        """Check a location; of a local one, links are resolved.

        Raises:
            OutsidePlaceError: If it is not below this place.
        """
        scheme, store, path = _parts(location)
        if scheme == "file":
            path = os.path.realpath(path)
        if (scheme, store) != (self.scheme, self.store) or not path.startswith(f"{self.prefix}/"):
            raise OutsidePlaceError("a file of it lies outside of its warehouse or location")

    def check_table(self, location: str) -> None:
        """Check that a table says itself that it is here.

        Raises:
            OutsidePlaceError: If it is somewhere else, or has a wider location.
        """
        scheme, store, path = _parts(location.rstrip("/"))
        if scheme == "file":
            path = os.path.realpath(path)
        if (scheme, store, path) != (self.scheme, self.store, self.prefix):
            raise OutsidePlaceError("its metadata file is not below its location")


def warehouse_at(root: str) -> Place:
    """Return the place of a warehouse of local files.

    Raises:
        OutsidePlaceError: If that is no absolute path.
    """
    if not root.startswith("/"):
        raise OutsidePlaceError("its warehouse is no absolute path")
    return Place("file", "", os.path.realpath(root).rstrip("/"))


def table_at(metadata_location: str) -> Place:
    """Return the place of a table: the directory that has the folder ``metadata`` with its metadata file.

    The table's own word for it, which its writers choose, is not asked here.

    Raises:
        OutsidePlaceError: If the file is not in such a folder, or that is at the top of its store.
    """
    scheme, store, path = _parts(metadata_location)
    if scheme == "file":
        path = os.path.realpath(path)
    found = _METADATA.fullmatch(path)
    if found is None:
        raise OutsidePlaceError("its metadata file is in no folder named metadata")
    return Place(scheme, store, found[1])


def _parts(location: str) -> tuple[str, str, str]:
    """Return scheme, store and path of a location that all readers understand alike.

    A client of a store resolves ``..`` and ``%2e%2e``, another one does not, and some cut at ``?`` or leave
    out line ends: what could be read in two ways is refused.

    Raises:
        OutsidePlaceError: If it can be.
    """
    scheme, store, path = "file", "", location
    if not location.startswith("/"):
        scheme, separator, rest = location.partition("://")
        store, slash, path = rest.partition("/")
        path = f"{slash}{path}"
        if not separator or _SCHEME.fullmatch(scheme) is None or bool(store) == (scheme == "file"):
            raise OutsidePlaceError("a location of it has no scheme, or no bucket")
    elif location.startswith("//"):
        raise OutsidePlaceError("a location of it has no scheme")
    text = path
    for _ in range(DECODINGS):
        odd = not text.isprintable() or text != text.strip() or any(one in text for one in "\\?#")
        if odd or {".", ".."} & set(text.split("/")):
            raise OutsidePlaceError("a location of it has .. or odd characters")
        decoded = unquote(text)
        if decoded == text:
            return scheme, store, path
        text = decoded
    raise OutsidePlaceError("a location of it is encoded many times")
