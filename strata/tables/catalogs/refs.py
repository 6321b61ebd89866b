"""Parse table URIs into table references.

Parsing is lexical and touches no file: a URI that names a directory neither creates anything in it nor
reveals whether it exists.

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
"""Characters of a table URI; longer ones are refused."""
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_LOCAL_HOSTS = ("", "localhost")


@attrs.frozen
class TableRef:
    """Canonical name of a table: all spellings of a table's URI give equal references.

    Attributes:
        catalog: Alias of the configured warehouse or catalog; for a warehouse named by directory (personal
            mode) ``file://`` and the normalised path.
        namespace: Levels of the namespace, outermost first; at least one.
        table: Name of the table without its namespace.
    """

    catalog: str
    namespace: tuple[str, ...]
    table: str

    @property
    def resource(self) -> str:
        """Resource name ``tables/<alias>/<namespace>/<table>``, as access rules and provenance use it."""
        return f"tables/{self.catalog}/{'.'.join(self.namespace)}/{self.table}"


@attrs.frozen
class WarehouseName:
    """A table in the warehouse at a directory; the directory need not be configured.

    Attributes:
        path: The directory, normalised (see :func:`normalise_path`).
        namespace: Levels of the namespace, outermost first.
        table: Name of the table.
    """

    path: str
    namespace: tuple[str, ...]
    table: str


@attrs.frozen
class CatalogName:
    """A table of a catalog or warehouse named by alias.

    Attributes:
        alias: The alias as written; whether it is configured is not checked here.
        namespace: Levels of the namespace, outermost first.
        table: Name of the table.
    """

    alias: str
    namespace: tuple[str, ...]
    table: str


def parse_table_uri(uri: str) -> WarehouseName | CatalogName | Refused:
    """Parse a table URI; returns a refusal (BAD_REQUEST) if the text has neither accepted form."""
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
    """Return an absolute path without ``.``, ``..``, doubled or trailing slashes, without following links."""
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
