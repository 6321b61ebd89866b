"""Clients of catalog servers, restricted to the operator's properties and with timeouts.

pyiceberg's own clients open a table's files with the table's properties merged over the operator's. The
table's writers set those properties, which may name any Python class (``py-io-impl``) or an address that
would receive the operator's credentials (``s3.endpoint``). pyiceberg's REST client also waits without limit
for a server that does not answer, and blocks a worker thread that all tenants share.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pyiceberg.catalog import Catalog, CatalogType, MetastoreCatalog, infer_catalog_type, load_catalog
from pyiceberg.catalog.rest import RestCatalog, TableResponse
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.typedef import EMPTY_DICT, Properties
from pyiceberg.utils.config import Config, merge_config

PATIENCE = (5.0, 20.0)
"""Timeouts in seconds of a request to a REST catalog: to connect, and between two reads of the answer."""


class OperatorsRestCatalog(RestCatalog):
    """REST catalog client with timeouts; opens files with the properties of the server, not of the table."""

    def _create_session(self) -> Any:
        session = super()._create_session()
        # Every request of a session goes through this method, token requests included.
        session.request = partial(session.request, timeout=PATIENCE)  # type: ignore[method-assign]  # see above
        return session

    def _response_to_table(self, identifier_tuple: tuple[str, ...], table_response: TableResponse) -> Table:
        location = table_response.metadata_location
        vended = self._resolve_storage_credentials(table_response.storage_credentials, location)
        return Table(
            identifier=identifier_tuple,
            metadata=table_response.metadata,
            metadata_location=location or "",
            io=self._load_file_io({**table_response.config, **vended}, location),
            catalog=self,
            config=table_response.config,
        )


def open_catalog(alias: str, properties: Mapping[str, Any]) -> Catalog:
    """Return a client for a catalog; blocking: a REST client fetches the catalog's configuration.

    Args:
        alias: The catalog's name, also in pyiceberg's own configuration (``PYICEBERG_CATALOG__<ALIAS>__…``).
        properties: The operator's pyiceberg properties of the catalog.

    Raises:
        Exception: Any exception of the client, if its server does not answer or a property is invalid.
    """
    if "py-catalog-impl" in properties:
        return load_catalog(alias, **properties)
    merged: Any = merge_config(Config().get_catalog_config(alias) or {}, dict(properties))
    kind = CatalogType(merged["type"].lower()) if "type" in merged else infer_catalog_type(alias, merged)
    if kind is CatalogType.REST:
        return OperatorsRestCatalog(alias, **merged)
    catalog = load_catalog(alias, **properties)
    if isinstance(catalog, MetastoreCatalog):
        _keep_to_operators_properties(catalog)
    return catalog


def _keep_to_operators_properties(catalog: MetastoreCatalog) -> None:
    opened = catalog._load_file_io  # noqa: SLF001 - the one place where a table's properties are merged

    def load(properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:  # noqa: ARG001 - the table's
        return opened(location=location)

    catalog._load_file_io = load  # type: ignore[method-assign]  # noqa: SLF001 - see above
