"""Resolve a table URI to a table, and load the table's current metadata from its warehouse or catalog."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table.metadata import TableMetadata

from strata.config.coherence import CATALOG_FILE, WAREHOUSE_CATALOG_NAME, first_names, sqlite_path
from strata.config.fields import CatalogCallers
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.caches import Caches
from strata.tables.callers.clients import AsCaller, CallersClients
from strata.tables.callers.identity import Caller
from strata.tables.catalogs.metadata_file import parse_metadata_json, read_metadata_file
from strata.tables.catalogs.refs import (
    DIRECTORY_ALIAS,
    CatalogName,
    TableRef,
    WarehouseName,
    normalise_path,
    parse_table_uri,
)
from strata.tables.catalogs.remote_catalogs import (
    OperatorsRestCatalog,
    RestAnswer,
    catalog_kind,
    located,
    may_be_rest,
    open_catalog,
    retry_after,
)
from strata.tables.catalogs.restrictions import RESTRICTIONS_CHANGED, ReadRestrictions
from strata.tables.catalogs.sql_catalog import current_location
from strata.tables.catalogs.sqlite_catalog import CatalogFileError, DirectoryMissingError, SqliteCatalog
from strata.tables.catalogs.vended import Vended, VendedFileIO
from strata.tables.errors import Reading, refusable
from strata.tables.files.confined import ConfinedFileIO, regular
from strata.tables.files.lru import WeightedLru

DIRECTORIES = 64
"""Warehouses named by directory (personal mode) that are kept open; beyond, the one unused for longest is
closed."""

_PARSED_FACTOR = 16
"""Memory of parsed metadata per byte of its unpacked file; measured: 6 with many snapshots, 17 with many
columns."""
_TABLE_BYTES = 16 * 1024
"""Memory of a table besides its metadata."""
_SCANS_BYTES = 16 << 20
"""Bytes of resolved scans cached per table metadata; beyond, the least recently used go."""
_SCANS_SHARE = 4
"""The scans of one table take at most 1/``_SCANS_SHARE`` of what is cached of all tables."""
_RETRY_AFTER_SECONDS = 5
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
        inline_manifests: Locations of the manifests of snapshots without a manifest list, by snapshot id.
        summaries: What the writers of snapshots noted of them, by snapshot id; empty where the catalog's
            client parsed the metadata.
        restrictions: What the catalog demands of readers; None: nothing.
        scans: Resolved scans of this metadata, by the ``repr`` of their spec; none of a table that is not
            cached itself: scans and table refer to each other, and only garbage collection would free them.
    """

    ref: TableRef
    uuid: str
    metadata_location: str
    metadata: TableMetadata
    io: FileIO = attrs.field(repr=False)
    caches: Caches = attrs.field(repr=False)
    inline_manifests: Mapping[int, tuple[str, ...]] = attrs.field(repr=False, kw_only=True, factory=dict)
    summaries: Mapping[int, Mapping[str, str]] = attrs.field(repr=False, kw_only=True, factory=dict)
    restrictions: ReadRestrictions | None = attrs.field(repr=False, kw_only=True, default=None)
    scans: WeightedLru[str, object] = attrs.field(repr=False, init=False, factory=lambda: WeightedLru(0))


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
        callers: How catalogs are queried under the identity of the caller, by alias.
        secret: Key of the digests of read restrictions and callers, which callers see; by default one that no
            other process has.

    Raises:
        ValueError: If an alias names both a warehouse and a catalog.
    """

    def __init__(
        self,
        *,
        warehouses: Mapping[str, Path],
        catalogs: Mapping[str, Mapping[str, str]],
        any_file_warehouse: bool,
        callers: Mapping[str, CatalogCallers] = MappingProxyType({}),
        secret: bytes | None = None,
    ) -> None:
        twice = sorted(set(warehouses) & set(catalogs))
        if twice:
            raise ValueError(f"an alias names both a warehouse and a catalog: {', '.join(twice)}")
        self._any_file_warehouse = any_file_warehouse
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._properties = {alias: dict(properties) for alias, properties in catalogs.items()}
        self._alias_of_path: dict[str, str] = {}
        self._roots: dict[str, str] = {}
        self._sqlite: dict[str, SqliteCatalog] = {}
        self._directories: OrderedDict[str, SqliteCatalog] = OrderedDict()  # the least recently used first
        self._remote: dict[str, Catalog] = {}
        self._restricting: set[str] = set()
        self._lock = threading.Lock()
        self._caches = Caches()
        self._tables: WeightedLru[tuple[object, ...], LoadedTable] = self._caches.tables
        self._tables.gone = lambda table: table.scans.resize(0)
        self._canonical = first_names(warehouses, catalogs)
        for alias, directory in warehouses.items():
            real = str(directory.resolve())
            first = self._canonical[alias]
            if not any_file_warehouse:
                self._roots[first] = real
            for path in (str(directory), real):
                self._alias_of_path.setdefault(normalise_path(path), first)
            self._sqlite.setdefault(first, SqliteCatalog(f"{real}/{CATALOG_FILE}", WAREHOUSE_CATALOG_NAME))
        self._callers = {
            self._canonical[alias]: CallersClients(alias, how, partial(self._client, alias))
            for alias, how in callers.items()
        }
        for alias, properties in self._properties.items():
            if may_be_rest(alias, properties):
                self._restricting.add(self._canonical[alias])
            file = sqlite_path(properties)
            if file is not None:
                self._sqlite.setdefault(self._canonical[alias], SqliteCatalog(file, alias))

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
                    alias = DIRECTORY_ALIAS + path
            case CatalogName(name, namespace, table):
                alias = self._canonical.get(name)
        return NOT_FOUND if alias is None else TableRef(alias, namespace, table)

    def asked_by(self, ref: TableRef, tenant: str, principal: str) -> TableRef:
        """Return the reference with the caller, if its catalog is queried under the identity of callers.

        Without it such a table is not loaded: no request may be made under the server's own identity.
        """
        caller = self._caller(ref.catalog, tenant, principal)
        return ref if caller is None else attrs.evolve(ref, caller=caller)

    def _caller(self, alias: str, tenant: str, principal: str) -> Caller | None:
        return Caller.of(tenant, principal, self._secret) if alias in self._callers else None

    def may_restrict(self, ref: TableRef) -> bool:
        """Whether a table's catalog may demand restrictions of its readers, anew at each load."""
        return ref.catalog in self._restricting

    @property
    def restricting(self) -> bool:
        """Whether any catalog may demand restrictions of its readers."""
        return bool(self._restricting)

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

    def kinds(self) -> dict[str, str]:
        """Return the type of each configured warehouse and catalog by its alias, in the aliases' order.

        One that has several aliases is there under the one that access rules name.
        """
        aliases = sorted(set(self._canonical.values()))
        return {alias: catalog_kind(alias, self._properties.get(alias)) for alias in aliases}

    def opened(self, ref: TableRef) -> SqliteCatalog | Catalog:
        """Return the reader of a table's configured SQLite catalog, or the client of another one; blocking.

        Raises:
            RefusalError: If the caller's identity is not accepted (see :class:`CallersClients`).
            LookupError: If no catalog has this alias.
            Exception: As of :func:`open_catalog`.
        """
        return self._sqlite.get(ref.catalog) or self._catalog(ref)

    def resize(self, nbytes: int) -> None:
        """Change the bytes of parsed files that are kept, of all tables."""
        self._caches.resize(nbytes)

    def close(self) -> None:
        """Close idle connections to catalog files and databases."""
        with self._lock:
            opened: list[SqliteCatalog | Catalog] = [*self._sqlite.values(), *self._remote.values()]
            opened += self._directories.values()
        for catalog in (*opened, *self._callers.values()):
            catalog.close()

    def _sqlite_of(self, alias: str) -> SqliteCatalog | None:
        with self._lock:
            reader = self._sqlite.get(alias) or self._directories.get(alias)
            if not alias.startswith(DIRECTORY_ALIAS):
                return reader
            if reader is None and self._any_file_warehouse:
                path = f"{alias.removeprefix(DIRECTORY_ALIAS)}/{CATALOG_FILE}"
                reader = SqliteCatalog(path, WAREHOUSE_CATALOG_NAME, configured=False)
                self._directories[alias] = reader
                self._close_one_directory()
            if reader is not None:
                self._directories.move_to_end(alias)
            return reader

    def _close_one_directory(self) -> None:
        """Close the directory unused for longest, if there are more than :data:`DIRECTORIES`."""
        if len(self._directories) <= DIRECTORIES:
            return
        idle = (alias for alias, reader in self._directories.items() if not reader.reading)
        alias = next(idle, None)
        if alias is not None:
            self._directories.pop(alias).close()

    def _load_sqlite(self, reader: SqliteCatalog, ref: TableRef) -> LoadedTable:
        try:
            location = reader.metadata_location(ref)
        except CatalogFileError as cause:
            raise RefusalError(catalog_file_failed(ref, cause)) from cause
        return self._load_at(ref, location)

    def _load_at(
        self, ref: TableRef, location: str | None, properties: Mapping[str, str] | None = None
    ) -> LoadedTable:
        """Return the table whose current metadata file is at ``location``, parsed or from the cache.

        Args:
            ref: The table.
            location: Location of the metadata file.
            properties: Properties that open the table's files; default: those configured for its catalog.

        Raises:
            RefusalError: NOT_FOUND without a location; DATA_UNREADABLE if the file cannot be read.
        """
        if location is None:
            raise RefusalError(NOT_FOUND)
        table = self._tables.get((ref, location))
        if table is None:
            with Reading("metadata file", location):
                io = self._files_of(ref.catalog, location, properties)
                source = io.new_input(location)
                file = read_metadata_file(source)
                weight = file.nbytes * _PARSED_FACTOR + _TABLE_BYTES
                table = attrs.evolve(
                    self._loaded(ref, file.metadata, location, io),
                    inline_manifests=file.manifests,
                    summaries=file.summaries,
                )
                table.scans.resize(min(_SCANS_BYTES, self._tables.budget // _SCANS_SHARE))
                table.scans.changed = lambda more: self._tables.reweigh((ref, location), weight + more)
                self._tables.put((ref, location), table, weight)
        return table

    def _files_of(self, alias: str, location: str, properties: Mapping[str, str] | None) -> FileIO:
        """Return the file I/O for the tables of a catalog, with the operator's properties only.

        The table's own properties are written by the table's writers, who could name any Python class as the
        file system (``py-io-impl``).
        """
        root = self._roots.get(alias)
        if root is not None:
            return ConfinedFileIO(root)
        given = self._properties.get(alias, {}) if properties is None else dict(properties)
        return regular(load_file_io(given, location))

    def _load_remote(self, ref: TableRef) -> LoadedTable:
        try:
            catalog = self._catalog(ref)
            if isinstance(catalog, OperatorsRestCatalog):
                answer = catalog.answer_of(ref)
            elif isinstance(catalog, SqlCatalog):
                location = current_location(catalog, ref)
            elif hasattr(catalog, "_get_glue_table") or hasattr(catalog, "_get_hive_table"):
                location = located(catalog, ref)
            else:
                found = catalog.load_table((*ref.namespace, ref.table))
                if ".".join(found.name()) != ".".join((*ref.namespace, ref.table)):
                    # Some catalogs fold case. Access rules match the name as written, so a table under
                    # another spelling counts as missing.
                    raise NoSuchTableError  # noqa: TRY301 - handled below like the catalog's own
                return self._loaded(ref, found.metadata, found.metadata_location, regular(found.io))
        except (NoSuchTableError, NoSuchNamespaceError):
            raise RefusalError(NOT_FOUND) from None
        except ForbiddenError:
            # The catalog does not show it to the operator's credentials: like a missing table, and no later
            # request gets another answer.
            _log.warning("catalog_forbids_table", catalog=ref.catalog, table=ref.resource)
            raise RefusalError(NOT_FOUND) from None
        except RefusalError:
            raise
        except Exception as cause:
            # Catalog clients fail with their transport's exceptions (requests, SQLAlchemy, boto …), whose
            # messages hold addresses and credentials: neither the answer nor the log repeats them.
            _log.warning("catalog_unavailable", catalog=ref.catalog, error=type(cause).__name__)
            raise RefusalError(catalog_unavailable(ref, retry_after(cause))) from cause
        if isinstance(catalog, OperatorsRestCatalog):
            return self._load_answered(ref, catalog, answer)
        return self._load_at(ref, location, catalog.properties)

    def _load_answered(self, ref: TableRef, catalog: OperatorsRestCatalog, answer: RestAnswer) -> LoadedTable:
        """Return the table of a REST catalog's answer.

        Raises:
            RefusalError: DATA_UNREADABLE or UNSUPPORTED if its metadata cannot be read.
        """
        with Reading("metadata file", answer.location):
            file = parse_metadata_json(answer.metadata)

        restrictions = ReadRestrictions.of(answer.restrictions, self._secret, ref.resource)

        def renew() -> Vended:
            try:
                later = catalog.answer_of(ref)
            except RefusalError:
                raise
            except Exception as cause:
                # As where the table is loaded: the message may hold anything.
                _log.warning("credentials_not_renewed", catalog=ref.catalog, error=type(cause).__name__)
                raise RefusalError(catalog_unavailable(ref, retry_after(cause))) from cause
            if later.metadata.get("table-uuid") != str(file.metadata.table_uuid):
                raise RefusalError(NOT_FOUND)
            if ReadRestrictions.of(later.restrictions, self._secret, ref.resource) != restrictions:
                raise RefusalError(RESTRICTIONS_CHANGED)
            return later.vended

        io = load_file_io(dict(answer.vended.properties), answer.location)
        if type(io) is PyArrowFileIO:  # else a class that the operator has chosen
            io = VendedFileIO(answer.vended, answer.location, renew)
        table = self._loaded(ref, file.metadata, answer.location, io)
        return attrs.evolve(
            table,
            inline_manifests=file.manifests,
            summaries=file.summaries,
            restrictions=restrictions,
        )

    def _loaded(self, ref: TableRef, metadata: TableMetadata, location: str, io: FileIO) -> LoadedTable:
        return LoadedTable(ref, str(metadata.table_uuid), location, metadata, io, self._caches)

    def _catalog(self, ref: TableRef) -> Catalog:
        alias, clients = ref.catalog, self._callers.get(ref.catalog)
        if clients is not None:
            if ref.caller is None:
                raise RefusalError(NOT_FOUND)  # without a caller there are no rights
            asked: Catalog = clients.of(ref.caller)
            return asked
        with self._lock:
            known = self._remote.get(alias)
        if known is not None:
            return known
        catalog = self._client(alias)
        with self._lock:
            return self._remote.setdefault(alias, catalog)

    def _client(self, alias: str, caller: AsCaller | None = None) -> Catalog:
        # Reading a table must not create the tables of a SQL catalog.
        properties: dict[str, Any] = {"init_catalog_tables": "false", **self._properties[alias]}
        return open_catalog(alias, properties, caller)


def catalog_unavailable(ref: TableRef, seconds: int | None = None) -> Refused:
    """Return the refusal (UNAVAILABLE) for a table whose catalog does not answer.

    Args:
        ref: The table.
        seconds: Seconds after which the catalog wants to be asked again; default: 5.
    """
    # A warehouse named by directory has no alias; its path is the caller's own text and is not repeated.
    name = "The warehouse" if ref.catalog.startswith(DIRECTORY_ALIAS) else f"The catalog {ref.catalog}"
    return Refused(
        Reason.UNAVAILABLE,
        f"{name} is unavailable",
        code="catalog_unavailable",
        retry_after=seconds or _RETRY_AFTER_SECONDS,
    )


def catalog_file_failed(ref: TableRef, cause: CatalogFileError) -> Refused:
    """Log why a catalog file cannot be read, and return the refusal (UNAVAILABLE) for a table of it."""
    refused, missing = catalog_unavailable(ref), isinstance(cause, DirectoryMissingError)
    # The caller's own text is not repeated; and only what the operator configured is an operator's matter.
    name = None if ref.catalog.startswith(DIRECTORY_ALIAS) else ref.catalog
    kind = type(cause if missing or cause.__cause__ is None else cause.__cause__).__name__
    _log.warning("warehouse_missing" if missing else "catalog_unavailable", catalog=name, error=kind)
    if missing:
        detail = f"The directory of the warehouse {name} is missing"
        refused = attrs.evolve(refused, detail=detail, code="warehouse_missing")
    return refused
