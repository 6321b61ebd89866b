"""Clients of catalogs that are servers, kept to the operator's properties and to deadlines.

pyiceberg's own clients open a table's files with the properties of the table merged over the operator's.
Those are its writers': among them may stand the name of any Python class (``py-io-impl``) or the address to
which requests with the operator's credentials go (``s3.endpoint``). And its REST client waits for ever for a
server that does not answer, while the thread it waits in is every tenant's.
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
"""Seconds a REST catalog has to take a connection, and between two pieces of its answer."""


class OperatorsRestCatalog(RestCatalog):
    """A REST catalog whose tables' own properties open no file; what the server vends for them does."""

    def _create_session(self) -> Any:
        session = super()._create_session()
        # The one method every request of a session goes through, those for tokens included.
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
    """Return a client for a catalog; blocking, since a REST catalog is asked for its configuration.

    Args:
        alias: The catalog's name, also for pyiceberg's own configuration (``PYICEBERG_CATALOG__<ALIAS>__…``).
        properties: pyiceberg's properties of it.

    Raises:
        Exception: Whatever the client raises when its server cannot be asked or its properties make no sense.
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
    opened = catalog._load_file_io  # noqa: SLF001 - the one place where a table's properties come in

    def load(properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:  # noqa: ARG001 - a table's
        return opened(location=location)

    catalog._load_file_io = load  # type: ignore[method-assign]  # noqa: SLF001 - likewise
