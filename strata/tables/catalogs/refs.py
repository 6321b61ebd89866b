"""Table URIs and the one name each table has inside the server.

A URI is read lexically: nothing here touches a file, so naming a directory can neither create anything in it
nor reveal whether it exists.

Accepted forms (wire contract, "Table URIs")::

    file:///path/to/warehouse#namespace.table
    <catalog or warehouse alias>:namespace.table
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

import attrs

from strata.outcomes import Reason, Refused

MAX_URI_LENGTH = 2048
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_LOCAL_HOSTS = ("", "localhost")


@attrs.frozen
class TableRef:
    """The one name of a table: two spellings of one table give equal references.

    Attributes:
        catalog: Alias of the configured warehouse or catalog; for a warehouse named by directory (personal
            mode) ``file://`` and its normalised path.
        namespace: Levels of the namespace, outermost first; at least one.
        table: The table's own name.
    """

    catalog: str
    namespace: tuple[str, ...]
    table: str

    @property
    def resource(self) -> str:
        """One text for the table, ``tables/<alias>/<namespace>/<table>``: its part of provenance."""
        return f"tables/{self.catalog}/{'.'.join(self.namespace)}/{self.table}"


@attrs.frozen
class WarehouseName:
    """A table of the warehouse in a directory, which may or may not be configured."""

    path: str
    namespace: tuple[str, ...]
    table: str


@attrs.frozen
class CatalogName:
    """A table of a catalog named by its alias."""

    alias: str
    namespace: tuple[str, ...]
    table: str


def parse_table_uri(uri: str) -> WarehouseName | CatalogName | Refused:
    """Take a table URI apart; refuses what is no table URI, whatever is configured."""
    if len(uri) > MAX_URI_LENGTH:
        return _malformed(f"it is longer than {MAX_URI_LENGTH} characters")
    scheme, colon, rest = uri.partition(":")
    if not colon:
        return _malformed("it names no catalog")
    if scheme.lower() == "file":
        return _parse_file(uri)
    if rest.startswith("//") or not _ALIAS.fullmatch(scheme):
        return _malformed("only file:// warehouses and configured catalogs hold tables")
    identifier = _split_identifier(rest)
    return identifier if isinstance(identifier, Refused) else CatalogName(scheme, *identifier)


def normalise_path(path: str) -> str:
    """Return an absolute path without ``.``, ``..``, doubled or trailing slashes; lexically."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _parse_file(uri: str) -> WarehouseName | Refused:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return _malformed("its host is malformed")
    if parts.netloc.lower() not in _LOCAL_HOSTS or not parts.path.startswith("/"):
        return _malformed("a warehouse is an absolute directory of this server")
    if parts.query:
        return _malformed("a warehouse takes no query string")
    path = unquote(parts.path, errors="surrogateescape")
    if "\x00" in path:
        return _malformed("it contains a control character")
    identifier = _split_identifier(unquote(parts.fragment))
    return identifier if isinstance(identifier, Refused) else WarehouseName(normalise_path(path), *identifier)


def _split_identifier(text: str) -> tuple[tuple[str, ...], str] | Refused:
    parts = text.split(".")
    if len(parts) < 2 or not all(parts):  # noqa: PLR2004 - a namespace and a table
        return _malformed("the table is written namespace.table")
    if _FORBIDDEN.search(text) or text != text.strip():
        return _malformed("a name contains a slash, a control character or surrounding spaces")
    return tuple(parts[:-1]), parts[-1]


def _malformed(why: str) -> Refused:
    return Refused(Reason.BAD_REQUEST, f"Not a table URI: {why}", loc=("body", "inputs"))
