"""Clients of catalog servers, restricted to the operator's properties and with timeouts.

pyiceberg's own clients open a table's files with the table's properties merged over the operator's. The
table's writers set those properties, which may name any Python class (``py-io-impl``) or an address that
would receive the operator's credentials (``s3.endpoint``). pyiceberg's REST client takes any property from
its server's answers, too, where credentials and settings of the object store are meant; and it waits without
limit for a server that does not answer, and blocks a worker thread that all tenants share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs
from pyiceberg.catalog import Catalog, CatalogType, MetastoreCatalog, infer_catalog_type, load_catalog
from pyiceberg.catalog.rest import Endpoints, RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    ForbiddenError,
    NoSuchTableError,
    RESTError,
    UnauthorizedError,
)
from pyiceberg.io import FileIO
from pyiceberg.typedef import EMPTY_DICT, Properties
from pyiceberg.utils.config import Config, merge_config

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.callers.clients import AsCaller
from strata.tables.catalogs.metadata_file import MOST_BYTES
from strata.tables.catalogs.refs import TableRef
from strata.tables.catalogs.sql_catalog import bound_waits
from strata.tables.catalogs.vended import Vended

VENDED = ("s3.", "gcs.", "adls.", "client.")
"""Beginnings of the properties taken from a REST catalog's answers to open files: credentials of an object
store, its address and region."""

CONFIGURED = frozenset({"prefix", "namespace-separator", "token", "warehouse"})
"""Further properties taken from a REST catalog's configuration; ``uri``, too, but only on the same server."""

LONGEST_RETRY = 3600
"""Most seconds that a catalog's ``Retry-After`` is passed on as; a client may not look again for so long."""

PATIENCE = (5.0, 20.0)
"""Timeouts in seconds of a request to a REST catalog: to connect, and between two reads of the answer."""


_ERRORS: Mapping[int, type[Exception]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NoSuchTableError,
    419: AuthorizationExpiredError,
}


class OperatorsRestCatalog(RestCatalog):
    """REST catalog client with timeouts; opens files with the properties of the server, not of the table.

    Args:
        name: The catalog's alias.
        caller: Makes the requests those of a caller; None: they are the server's own.
        properties: The operator's properties.
    """

    def __init__(self, name: str, caller: AsCaller | None = None, **properties: Any) -> None:
        self._caller = caller
        super().__init__(name, **properties)

    def _create_session(self) -> Any:
        session = super()._create_session()
        if self._caller is not None:
            self._caller.prepare(session)
        # Every request of a session goes through this method, token requests included.
        session.request = partial(session.request, timeout=PATIENCE)  # type: ignore[method-assign]  # see above
        return session

    def _refresh_token(self) -> None:
        if self._caller is not None and self._caller.token is not None:
            self._caller.token.forget()
        else:
            super()._refresh_token()

    def _fetch_config(self) -> None:
        own = dict(self.properties)
        super()._fetch_config()
        # The answer was merged over the operator's properties, whatever it names: a class to import, say.
        self.properties = own | {
            key: value for key, value in self.properties.items() if self._is_configured(key, value, own)
        }
        self.uri = self.properties["uri"]

    @staticmethod
    def _is_configured(key: str, value: str, own: Mapping[str, str]) -> bool:
        if key == "uri":
            return urlsplit(value)[:2] == urlsplit(own["uri"])[:2]
        return key in CONFIGURED or key.startswith(VENDED)

    def answer_of(self, ref: TableRef) -> RestAnswer:
        """Ask the catalog for a table; blocking.

        Raises:
            NoSuchTableError: If the catalog has no such table.
            RefusalError: UNSUPPORTED if the catalog demands to plan scans itself.
            Exception: Any exception of the client, if the server does not answer or refuses.
        """
        try:
            return self._ask((*ref.namespace, ref.table))
        except (AuthorizationExpiredError, UnauthorizedError):
            self._refresh_token()
        return self._ask((*ref.namespace, ref.table))

    def _ask(self, identifier: tuple[str, ...]) -> RestAnswer:
        parts = self._split_identifier_for_path(identifier)
        response = self._session.get(self.url(Endpoints.load_table, prefixed=True, **parts))
        try:
            response.raise_for_status()
        except OSError as error:  # of the client's own kind, which names its response
            status = response.status_code
            raise _ERRORS.get(status, RESTError)(f"the catalog answers {status}") from error
        if len(response.content) > MOST_BYTES:
            raise ValueError("the answer is larger than any metadata file that is read")
        found: dict[str, Any] = json.loads(response.content)
        config: dict[str, str] = found.get("config") or {}
        if config.get("scan-planning-mode") == "server":
            detail = "The table cannot be read: its catalog demands to plan scans itself"
            raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))
        prefixes = [
            (str(one["prefix"]), _vended(one["config"])) for one in found.get("storage-credentials") or ()
        ]
        return RestAnswer(
            metadata=found["metadata"],
            location=found.get("metadata-location") or "",
            restrictions=found.get("read-restrictions"),
            vended=Vended({**self.properties, **_vended(config)}, prefixes),
        )


@attrs.frozen(eq=False)
class RestAnswer:
    """A REST catalog's answer for a table (Iceberg REST catalog specification, ``LoadTableResult``).

    Attributes:
        metadata: The table's metadata as JSON.
        location: Location of the metadata file; empty if the catalog names none.
        restrictions: What the catalog demands of readers, as JSON; None: nothing.
        vended: What opens the table's files.
    """

    metadata: dict[str, Any] = attrs.field(repr=False)
    location: str
    restrictions: Any = attrs.field(repr=False)
    vended: Vended


def located(catalog: Catalog, ref: TableRef) -> str | None:
    """Return the location of a table's metadata file in a Glue or Hive catalog; blocking.

    Their own ``load_table`` parses the file, too, and takes only what pyiceberg itself writes.

    Returns:
        None if the table's name is spelled otherwise: these catalogs fold case, and access rules do not.

    Raises:
        LookupError: If the catalog is of another kind.
        NoSuchTableError: If the catalog has no such table.
        RefusalError: UNSUPPORTED if it is no Iceberg table.
        Exception: Any exception of the client, if the server does not answer.
    """
    database = ".".join(ref.namespace)
    if hasattr(catalog, "_get_glue_table"):
        entry = catalog._get_glue_table(database_name=database, table_name=ref.table)  # noqa: SLF001 - see above
        name, parameters = (entry.get("DatabaseName"), entry.get("Name")), entry.get("Parameters") or {}
    elif hasattr(catalog, "_get_hive_table"):
        with catalog._client as client:  # type: ignore[attr-defined]  # noqa: SLF001 - see above
            entry = catalog._get_hive_table(client, database, ref.table)  # noqa: SLF001 - see above
        name, parameters = (entry.dbName, entry.tableName), entry.parameters or {}
    else:
        raise LookupError("the catalog does not tell locations")
    if name != (database, ref.table):
        return None
    if str(parameters.get("table_type")).lower() != "iceberg" or "metadata_location" not in parameters:
        detail = "The table cannot be read: it is no Iceberg table"
        raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))
    return str(parameters["metadata_location"])


def retry_after(cause: BaseException) -> int | None:
    """Return the seconds after which a server that refused wants to be queried again; None if it names none.

    At least 1, at most :data:`LONGEST_RETRY`.
    """
    error: BaseException | None = cause
    while error is not None:
        headers = getattr(getattr(error, "response", None), "headers", None)
        if headers is not None:
            return _seconds(headers)
        error = error.__cause__ or error.__context__
    return None


def _seconds(headers: Mapping[str, str]) -> int | None:
    """Parse a ``Retry-After``: seconds, or a date (RFC 9110, section 10.2.3) by the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return max(1, min(LONGEST_RETRY, int(value)))
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(1, min(LONGEST_RETRY, math.ceil(wait.total_seconds())))


def _vended(properties: Mapping[str, str]) -> dict[str, str]:
    """Return what opens a table's files, of the properties in a catalog's answer."""
    return {key: value for key, value in properties.items() if key.startswith(VENDED)}


def may_be_rest(alias: str, properties: Mapping[str, Any]) -> bool:
    """Test whether properties are those of a REST catalog, or of one that only its client knows."""
    if "py-catalog-impl" in properties:
        return False  # its client gives no restrictions on, and its tables are what it says
    if "type" in properties:
        return str(properties["type"]).lower() == CatalogType.REST.value
    merged: Any = merge_config(Config().get_catalog_config(alias) or {}, dict(properties))
    if "type" in merged:
        return str(merged["type"]).lower() == CatalogType.REST.value
    return str(merged.get("uri", "http")).startswith("http")


def open_catalog(alias: str, properties: Mapping[str, Any], caller: AsCaller | None = None) -> Catalog:
    """Return a client for a catalog; blocking: a REST client fetches the catalog's configuration.

    Args:
        alias: The catalog's name, also in pyiceberg's own configuration (``PYICEBERG_CATALOG__<ALIAS>__…``).
        properties: The operator's pyiceberg properties of the catalog.
        caller: On whose behalf a REST catalog is queried; None: on the server's own.

    Raises:
        LookupError: If a catalog of another kind is to be queried on a caller's behalf.
        Exception: Any exception of the client, if its server does not answer or a property is invalid.
    """
    if "py-catalog-impl" in properties and caller is None:
        return load_catalog(alias, **properties)
    merged: Any = merge_config(Config().get_catalog_config(alias) or {}, dict(properties))
    kind = CatalogType(merged["type"].lower()) if "type" in merged else infer_catalog_type(alias, merged)
    if kind is CatalogType.REST:
        return OperatorsRestCatalog(alias, caller, **merged)
    if caller is not None:
        raise LookupError("only a REST catalog is queried on behalf of callers")
    catalog = load_catalog(alias, **properties)
    if isinstance(catalog, SqlCatalog):
        bound_waits(catalog)
    if isinstance(catalog, MetastoreCatalog):
        _keep_to_operators_properties(catalog)
    return catalog


def catalog_kind(alias: str, properties: Mapping[str, Any] | None) -> str:
    """Return the type of a catalog for people: ``warehouse``, ``sql``, ``rest``, ``glue`` …; else ``custom``.

    Args:
        alias: The catalog's name.
        properties: The operator's properties; ``None`` for a warehouse.
    """
    if properties is None:
        return "warehouse"
    if "type" in properties:
        return str(properties["type"]).lower()
    if "py-catalog-impl" in properties:
        return "custom"
    try:
        kind = infer_catalog_type(alias, dict(properties))
    except ValueError:
        kind = None
    return "custom" if kind is None else kind.value


def _keep_to_operators_properties(catalog: MetastoreCatalog) -> None:
    opened = catalog._load_file_io  # noqa: SLF001 - the one place where a table's properties are merged

    def load(properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:  # noqa: ARG001 - the table's
        return opened(location=location)

    catalog._load_file_io = load  # type: ignore[method-assign]  # noqa: SLF001 - see above
