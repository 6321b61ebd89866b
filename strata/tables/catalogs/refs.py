"""Parse table URIs into table references.

Parsing is lexical and touches no file: a URI that names a directory neither creates anything in it nor
reveals whether it exists.

Accepted forms (wire contract, "Table URIs")::

    file:///path/to/warehouse#namespace.table
    <catalog or warehouse alias>:namespace.table

A part of the name that contains a dot is written in double quotes, as in ``prod:sales."2026.q1"``; a double
quote inside of quotes is written twice.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, unquote, urlsplit

import attrs

from strata.outcomes import Reason, Refused
from strata.tables.callers.identity import Caller

MAX_URI_LENGTH = 2048
"""Characters of a table URI; longer ones are refused."""
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_LOCAL_HOSTS = ("", "localhost")
_QUOTE = '"'
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
DIRECTORY_ALIAS = "file://"
"""Beginning of the catalog of a :class:`TableRef` whose warehouse is named by directory; its path follows."""


@attrs.frozen
class TableRef:
    """Canonical name of a table: all spellings of a table's URI give equal references.

    Attributes:
        catalog: Alias of the configured warehouse or catalog; for a warehouse named by directory (personal
            mode) ``file://`` and the normalised path.
        namespace: Levels of the namespace, outermost first; at least one.
        table: Name of the table without its namespace.
        caller: On whose behalf the catalog is queried; None: on the server's own. What one caller's catalog
            answers is nothing of another's, so references with different callers are different.
    """

    catalog: str
    namespace: tuple[str, ...]
    table: str
    caller: Caller | None = attrs.field(default=None, kw_only=True)

    @property
    def resource(self) -> str:
        """Resource name ``tables/<alias>/<namespace>/<table>``, as access rules and provenance use it."""
        return f"tables/{self.catalog}/{'.'.join(self.namespace)}/{self.table}"

    @property
    def source(self) -> str:
        """The catalog and the caller, as part of the keys of what is kept of the table's files."""
        return self.catalog if self.caller is None else f"{self.catalog} {self.caller.digest}"


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
    parts = split_name(text)
    if parts is None or len(parts) < 2:  # noqa: PLR2004 - a namespace and a table
        return _malformed("the table is written namespace.table")
    if _FORBIDDEN.search(text) or text != text.strip():
        return _malformed("a name contains a slash, a control character or surrounding spaces")
    return parts[:-1], parts[-1]


def split_name(text: str) -> tuple[str, ...] | None:
    """Return the parts of a dotted name; ``None`` if one is empty, or its quotes are not closed."""
    if _QUOTE not in text:
        parts = tuple(text.split("."))
        return parts if all(parts) else None
    found, at = [], 0
    while True:
        quoted = _QUOTED.match(text, at)
        if quoted is not None:
            found.append(quoted[1].replace(_QUOTE * 2, _QUOTE))
            at = quoted.end()
        elif text.startswith(_QUOTE, at):
            return None
        else:
            end = text.find(".", at)
            end = len(text) if end < 0 else end
            found.append(text[at:end])
            at = end
        if not found[-1] or text[at : at + 1] not in ("", "."):
            return None
        if at == len(text):
            return tuple(found)
        at += 1


def table_uri(ref: TableRef) -> str | None:
    """Return the URI of a table; ``None`` if its name cannot be written in one.

    No URI names a table with an empty part of its name, a slash, a backslash or a control character in it, or
    one whose URI has more than :data:`MAX_URI_LENGTH` characters.
    """
    parts = (*ref.namespace, ref.table)
    if not ref.namespace or not all(parts) or any(_FORBIDDEN.search(part) for part in parts):
        return None
    name = ".".join(map(_written, parts))
    if ref.catalog.startswith(DIRECTORY_ALIAS):
        path = quote(ref.catalog.removeprefix(DIRECTORY_ALIAS), errors="surrogateescape")
        uri = f"{DIRECTORY_ALIAS}{path}#{quote(name)}"
    else:
        uri = f"{ref.catalog}:{name}"
    return uri if len(uri) <= MAX_URI_LENGTH else None


def _written(part: str) -> str:
    """Return a part of a name, in quotes where it would be read as something else."""
    if "." in part or part.startswith(_QUOTE) or part != part.strip():
        return f"{_QUOTE}{part.replace(_QUOTE, _QUOTE * 2)}{_QUOTE}"
    return part


def _malformed(why: str) -> Refused:
    return Refused(Reason.BAD_REQUEST, f"Not a table URI: {why}", loc=("body", "inputs"))
