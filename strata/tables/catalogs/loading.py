"""Resolve a table URI to a table, and load the table's current metadata from its warehouse or catalog."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.caches import Caches
from strata.tables.catalogs.refs import CatalogName, TableRef, WarehouseName, normalise_path, parse_table_uri
from strata.tables.catalogs.remote_catalogs import open_catalog
from strata.tables.catalogs.sql_catalog import current_location
from strata.tables.catalogs.sqlite_catalog import CatalogFileError, SqliteCatalog
from strata.tables.errors import Reading, refusable
from strata.tables.files.confined import ConfinedFileIO
from strata.tables.files.lru import WeightedLru

CATALOG_FILE = "catalog.db"
"""The file of a warehouse that holds its catalog (wire contract, "Table URIs")."""

WAREHOUSE_CATALOG_NAME = "strata"
"""The catalog name inside a warehouse's ``catalog.db`` (wire contract, "Table URIs")."""

_DIRECTORY_ALIAS = "file://"
_METADATA_CACHE_BYTES = 64 << 20
"""Bytes of metadata files whose parsed form is cached; beyond, the least recently used go."""
_SCANS_BYTES = 1 << 20
"""Bytes of resolved scans cached per table metadata; beyond, the least recently used go."""
_RETRY_AFTER_SECONDS = 5
_SQLITE_SCHEMES = ("sqlite", "sqlite+pysqlite")
_log = structlog.get_logger(__name__)

NOT_FOUND = Refused(Reason.NOT_FOUND, "Table not found")


@attrs.frozen(eq=False)
class LoadedTable:
    """A table with the metadata its catalog names as current. Immutable: a later commit is another value.

    Attributes:
        ref: The table's name in this server.
        uuid: The table's UUID; a dropped and re-created table has another.
        metadata_location: Location of the metadata file.
        metadata: The parsed metadata.
        io: Opens the table's files with the operator's properties of the catalog, not the table's.
        caches: Parsed files, shared by all tables of the process.
        scans: Resolved scans of this metadata, by the ``repr`` of their spec.
    """

    ref: TableRef
    uuid: str
    metadata_location: str
    metadata: TableMetadata
    io: FileIO = attrs.field(repr=False)
    caches: Caches = attrs.field(repr=False)
    scans: WeightedLru[str, object] = attrs.field(
        repr=False, init=False, factory=lambda: WeightedLru(_SCANS_BYTES)
    )


class Catalogs:
    """The configured warehouses and catalogs, one object for the process; thread-safe.

    Construction resolves the symbolic links of the configured directories, once; afterwards :meth:`resolve`
    is purely lexical.

    Args:
        warehouses: Alias → directory holding a ``catalog.db``.
        catalogs: Alias → pyiceberg catalog properties (``type``, ``uri`` …). The values may be secrets and
            appear in no refusal.
        any_file_warehouse: Whether a ``file://`` URI may name a directory that is not configured (personal
            mode only).

    Raises:
        ValueError: If an alias names both a warehouse and a catalog.
    """

    def __init__(
        self,
        *,
        warehouses: Mapping[str, Path],
        catalogs: Mapping[str, Mapping[str, str]],
        any_file_warehouse: bool,
    ) -> None:
        twice = sorted(set(warehouses) & set(catalogs))
        if twice:
            raise ValueError(f"an alias names both a warehouse and a catalog: {', '.join(twice)}")
        self._any_file_warehouse = any_file_warehouse
        self._properties = {alias: dict(properties) for alias, properties in catalogs.items()}
        self._alias_of_path: dict[str, str] = {}
        self._canonical: dict[str, str] = {}
        self._roots: dict[str, str] = {}
        self._sqlite: dict[str, SqliteCatalog] = {}
        self._remote: dict[str, Catalog] = {}
        self._lock = threading.Lock()
        self._caches = Caches()
        self._tables: WeightedLru[tuple[TableRef, str], LoadedTable] = WeightedLru(_METADATA_CACHE_BYTES)
        identities: dict[object, str] = {}
        for alias, directory in warehouses.items():
            real = str(directory.resolve())
            first = identities.setdefault(("sqlite", f"{real}/{CATALOG_FILE}", WAREHOUSE_CATALOG_NAME), alias)
            self._canonical[alias] = first
            if not any_file_warehouse:
                self._roots[first] = real
            for path in (str(directory), real):
                self._alias_of_path.setdefault(normalise_path(path), first)
            self._sqlite.setdefault(first, SqliteCatalog(f"{real}/{CATALOG_FILE}", WAREHOUSE_CATALOG_NAME))
        for alias, properties in self._properties.items():
            file = _sqlite_path(properties)
            first = identities.setdefault(_identity(alias, properties, file), alias)
            self._canonical[alias] = first
            if file is not None:
                self._sqlite.setdefault(first, SqliteCatalog(file, alias))

    def resolve(self, uri: str) -> TableRef | Refused:
        """Return the canonical reference of the table that a URI names. Pure: no file, no network.

        Returns a refusal if the text is no table URI (BAD_REQUEST) or names a warehouse or catalog that is
        not configured (NOT_FOUND, exactly as for a missing table).
        """
        named = parse_table_uri(uri)
        alias: str | None
        match named:
            case Refused():
                return named
            case WarehouseName(path, namespace, table):
                alias = self._alias_of_path.get(path)
                if alias is None and self._any_file_warehouse:
                    alias = _DIRECTORY_ALIAS + path
            case CatalogName(name, namespace, table):
                alias = self._canonical.get(name)
        return NOT_FOUND if alias is None else TableRef(alias, namespace, table)

    def peek(self, ref: TableRef) -> LoadedTable | None:
        """Return the table with its current metadata if no I/O has to be waited for, else ``None``.

        As exact as :meth:`load`, and safe on the event loop's thread: repeated requests for an unchanged
        table need no worker thread. On ``None``, call :meth:`load`.
        """
        sqlite = self._sqlite_of(ref.catalog)
        location = None if sqlite is None else sqlite.peek(ref)
        return None if location is None else self._tables.get((ref, location))

    @refusable
    def load(self, ref: TableRef) -> LoadedTable:
        """Return the table with its current metadata; blocking.

        An unchanged table of a SQLite catalog costs one SELECT; parsed metadata is cached by location.
        Returns a refusal if the table is missing (NOT_FOUND), its catalog does not answer (UNAVAILABLE) or
        its metadata file cannot be read (DATA_UNREADABLE).
        """
        sqlite = self._sqlite_of(ref.catalog)
        if sqlite is not None:
            return self._load_sqlite(sqlite, ref)
        if ref.catalog in self._properties:
            return self._load_remote(ref)
        raise RefusalError(NOT_FOUND)

    def close(self) -> None:
        """Close idle connections to catalog files and databases."""
        with self._lock:
            opened: list[SqliteCatalog | Catalog] = [*self._sqlite.values(), *self._remote.values()]
        for catalog in opened:
            catalog.close()

    def _sqlite_of(self, alias: str) -> SqliteCatalog | None:
        with self._lock:
            reader = self._sqlite.get(alias)
            if reader is None and self._any_file_warehouse and alias.startswith(_DIRECTORY_ALIAS):
                path = f"{alias.removeprefix(_DIRECTORY_ALIAS)}/{CATALOG_FILE}"
                reader = self._sqlite[alias] = SqliteCatalog(path, WAREHOUSE_CATALOG_NAME)
            return reader

    def _load_sqlite(self, reader: SqliteCatalog, ref: TableRef) -> LoadedTable:
        try:
            location = reader.metadata_location(ref)
        except CatalogFileError as cause:
            raise RefusalError(catalog_unavailable(ref)) from cause
        return self._load_at(ref, location)

    def _load_at(self, ref: TableRef, location: str | None) -> LoadedTable:
        """Return the table whose current metadata file is at ``location``, parsed or from the cache.

        Raises:
            RefusalError: NOT_FOUND without a location; DATA_UNREADABLE if the file cannot be read.
        """
        if location is None:
            raise RefusalError(NOT_FOUND)
        table = self._tables.get((ref, location))
        if table is None:
            with Reading("metadata file", location):
                io = self._files_of(ref.catalog, location)
                source = io.new_input(location)
                table = self._loaded(ref, FromInputFile.table_metadata(source), location, io)
                self._tables.put((ref, location), table, len(source))
        return table

    def _files_of(self, alias: str, location: str) -> FileIO:
        """Return the file I/O for the tables of a catalog, with the operator's properties only.

        The table's own properties are written by the table's writers, who could name any Python class as the
        file system (``py-io-impl``).
        """
        root = self._roots.get(alias)
        if root is not None:
            return ConfinedFileIO(root)
        return load_file_io(self._properties.get(alias, {}), location)

    def _load_remote(self, ref: TableRef) -> LoadedTable:
        try:
            catalog = self._catalog(ref.catalog)
            if isinstance(catalog, SqlCatalog):
                location = current_location(catalog, ref)
            else:
                found = catalog.load_table((*ref.namespace, ref.table))
                if ".".join(found.name()) != ".".join((*ref.namespace, ref.table)):
                    # Some catalogs fold case. Access rules match the name as written, so a table under
                    # another spelling counts as missing.
                    raise NoSuchTableError  # noqa: TRY301 - handled below like the catalog's own
                return self._loaded(ref, found.metadata, found.metadata_location, found.io)
        except (NoSuchTableError, NoSuchNamespaceError):
            raise RefusalError(NOT_FOUND) from None
        except Exception as cause:
            # Catalog clients fail with their transport's exceptions (requests, SQLAlchemy, boto …), whose
            # messages hold addresses and credentials: neither the answer nor the log repeats them.
            _log.warning("catalog_unavailable", catalog=ref.catalog, error=type(cause).__name__)
            raise RefusalError(catalog_unavailable(ref)) from cause
        return self._load_at(ref, location)

    def _loaded(self, ref: TableRef, metadata: TableMetadata, location: str, io: FileIO) -> LoadedTable:
        return LoadedTable(ref, str(metadata.table_uuid), location, metadata, io, self._caches)

    def _catalog(self, alias: str) -> Catalog:
        with self._lock:
            known = self._remote.get(alias)
        if known is not None:
            return known
        # Reading a table must not create the tables of a SQL catalog.
        properties: dict[str, Any] = {"init_catalog_tables": "false", **self._properties[alias]}
        catalog = open_catalog(alias, properties)
        with self._lock:
            return self._remote.setdefault(alias, catalog)


def catalog_unavailable(ref: TableRef) -> Refused:
    """Return the refusal (UNAVAILABLE, retry after 5 s) for a table whose catalog does not answer."""
    # A warehouse named by directory has no alias; its path is the caller's own text and is not repeated.
    name = "The warehouse" if ref.catalog.startswith(_DIRECTORY_ALIAS) else f"The catalog {ref.catalog}"
    return Refused(
        Reason.UNAVAILABLE,
        f"{name} is unavailable",
        code="catalog_unavailable",
        retry_after=_RETRY_AFTER_SECONDS,
    )


def _sqlite_path(properties: Mapping[str, str]) -> str | None:
    """Return the resolved path of a SQL catalog's SQLite file; ``None`` for other catalogs."""
    if properties.get("type", "sql") != "sql" or "py-catalog-impl" in properties:
        return None
    parts = urlsplit(properties.get("uri", ""))
    if parts.scheme not in _SQLITE_SCHEMES or parts.query or len(parts.path) < 2:  # noqa: PLR2004 - "/" and a name
        return None
    # sqlite:///relative and sqlite:////absolute: everything after the third slash (SQLAlchemy's rule).
    return str(Path(unquote(parts.path[1:])).resolve())


def _identity(alias: str, properties: Mapping[str, str], sqlite_path: str | None) -> object:
    """Return a key equal for two aliases of one catalog, so that an access rule on one covers both."""
    if sqlite_path is not None:
        return ("sqlite", sqlite_path, alias)
    if properties.get("type") == "sql" or "py-catalog-impl" in properties:
        return ("named", alias)
    place = {key: properties.get(key, "").rstrip("/") for key in ("type", "uri", "warehouse", "prefix")}
    return ("remote", tuple(sorted(place.items()))) if place["uri"] else ("named", alias)
