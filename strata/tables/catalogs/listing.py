"""List the tables and views of a catalog in order, a part at a time, each behind the one before.

A SQL catalog orders and bounds its names itself. The other clients return all namespaces below a namespace,
and all names in one; so those are walked namespace by namespace, a bounded number of them for each part.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeAlias

import attrs
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError

from strata.outcomes import RefusalError, Refused
from strata.tables.catalogs import sql_catalog
from strata.tables.catalogs.loading import Catalogs, catalog_file_failed, catalog_unavailable
from strata.tables.catalogs.refs import TableRef
from strata.tables.catalogs.remote_catalogs import retry_after
from strata.tables.catalogs.sqlite_catalog import CatalogFileError, SqliteCatalog
from strata.tables.errors import refusable

NAMESPACES = 64
"""Namespaces of a catalog server that one part asks for; the next part goes on behind them."""

NAMESPACE_SECONDS = 10.0
"""Seconds for which the namespaces of a catalog server are not requested again by a tenant."""

KNOWN_NAMESPACES = 5000
"""Most namespaces that a tenant keeps, 1 MB; those of a larger catalog are requested for each page."""

_TABLE, _VIEW = "table", "view"
_LAST = "\U0010ffff"
"""Stands in a place for a namespace whose tables are all listed: behind every name."""

_NOTHING = (NoSuchNamespaceError, ForbiddenError)
"""A namespace was dropped meanwhile, or is not for the operator's credentials: it has no tables."""

_log = structlog.get_logger(__name__)

Namespace: TypeAlias = tuple[str, ...]
_Until: TypeAlias = tuple[float, frozenset[Namespace]]
"""The time until which namespaces are known, and the namespaces."""

_Children: TypeAlias = Callable[[Namespace], AbstractSet[Namespace]]
"""Returns the namespaces directly below one."""


@attrs.frozen(order=True)
class Place:
    """A place in the order of a catalog's tables: behind one of them, or behind all tables of a namespace.

    Attributes:
        namespace: Levels of the namespace, outermost first. For a SQL catalog one text, as it is stored.
        name: The name; ``""`` is before all others.
    """

    namespace: Namespace = ()
    name: str = ""


@attrs.frozen
class Listed:
    """A table or view of a catalog.

    Attributes:
        ref: Its name.
        kind: ``table`` or ``view``.
        place: The place behind it.
    """

    ref: TableRef
    kind: str
    place: Place


@attrs.frozen
class Part:
    """A part of a catalog's tables.

    Attributes:
        found: Tables and views in order; perhaps none, though more follow.
        following: Where the next part begins; ``None``: there are no more tables.
    """

    found: tuple[Listed, ...]
    following: Place | None


def _every(_namespace: Namespace) -> bool:
    return True


@attrs.define(eq=False)
class KnownNamespaces:
    """The namespaces of catalog servers, as one tenant has seen them a moment ago; thread-safe.

    A server that names its namespaces 100 at a time, as Glue does, answers 20 requests for 2,000 of them,
    which each page would send anew. Tenants share none: one would learn from the time of its answer what
    the other has listed.

    Attributes:
        now: Returns the seconds of the event loop's clock; called in this thread.
    """

    now: Callable[[], float]
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _found: dict[tuple[str, Namespace], _Until] = attrs.field(init=False, factory=dict)

    def below(
        self, source: str, above: Namespace, ask: Callable[[], set[Namespace]]
    ) -> AbstractSet[Namespace]:
        """Return the namespaces directly below one of a catalog (and caller); blocking, unless known."""
        now, key = self.now(), (source, above)
        with self._lock:
            found = self._found.get(key)
            if found is not None and now < found[0]:
                return found[1]
        names = frozenset(ask())
        with self._lock:
            self._found = {one: known for one, known in self._found.items() if now < known[0] and one != key}
            if sum(1 + len(known) for _, known in self._found.values()) + len(names) < KNOWN_NAMESPACES:
                self._found[key] = (now + NAMESPACE_SECONDS, names)
        return names


@refusable
def list_part(
    catalogs: Catalogs,
    catalog: TableRef,
    *,
    namespace: Namespace | None,
    behind: Place,
    most: int,
    enter: Callable[[Namespace], bool] = _every,
    stopped: Callable[[], bool] = lambda: False,
    known: KnownNamespaces | None = None,
) -> Part:
    """Return the next tables of a catalog, at most ``most``; blocking.

    Args:
        catalogs: The configured catalogs.
        catalog: Any table of the catalog to list, with the caller (:meth:`Catalogs.asked_by`).
        namespace: The only namespace to list, without those below it; ``None``: all.
        behind: Where to begin.
        most: Most tables and views to return.
        enter: Whether to ask a catalog server for the tables of a namespace; called in this thread.
        stopped: Whether to give up between two requests to a catalog server.
        known: Namespaces of the caller's tenant that need not be requested again; None: request all.

    Returns a refusal (UNAVAILABLE) if the catalog does not answer.
    """
    alias = catalog.catalog
    try:
        opened = catalogs.opened(catalog)
        if isinstance(opened, SqliteCatalog | SqlCatalog):
            return _of_sql(opened, alias, namespace, behind, most)
        children = partial(_known_children, known, catalog.source, opened)
        return _of_server(
            opened,
            alias,
            children=children,
            namespace=namespace,
            behind=behind,
            most=most,
            enter=enter,
            stopped=stopped,
        )
    except CatalogFileError as cause:
        raise RefusalError(catalog_file_failed(_any_table(alias), cause)) from cause
    except RefusalError:
        raise
    except Exception as cause:
        # As where a table is loaded: the messages of catalog clients hold addresses and credentials.
        _log.warning("catalog_unavailable", catalog=alias, error=type(cause).__name__)
        raise RefusalError(_unavailable(alias, retry_after(cause))) from cause


def _unavailable(alias: str, seconds: int | None = None) -> Refused:
    return catalog_unavailable(_any_table(alias), seconds)


def _any_table(alias: str) -> TableRef:
    return TableRef(alias, ("-",), "-")


def _of_sql(
    opened: SqliteCatalog | SqlCatalog, alias: str, namespace: Namespace | None, behind: Place, most: int
) -> Part:
    only = None if namespace is None else ".".join(namespace)
    place = (only or "".join(behind.namespace), behind.name)
    if isinstance(opened, SqliteCatalog):
        rows = opened.names_behind(only, place, most)
    else:
        rows = sql_catalog.names_behind(opened, only, place, most)
    found = tuple(
        Listed(TableRef(alias, _levels(text), name), _kind(kind), Place((text,), name))
        for text, name, kind in rows
        if isinstance(text, str) and isinstance(name, str)
    )
    return Part(found, found[-1].place if found and len(rows) == most else None)


def _levels(text: str) -> Namespace:
    """Return the levels of a namespace that a SQL catalog stores as one text."""
    levels = tuple(text.split("."))
    return levels if all(levels) else (text,)


def _kind(stored: str | None) -> str:
    return _VIEW if stored == "VIEW" else _TABLE


def _of_server(
    client: Catalog,
    alias: str,
    *,
    children: _Children,
    namespace: Namespace | None,
    behind: Place,
    most: int,
    enter: Callable[[Namespace], bool],
    stopped: Callable[[], bool],
) -> Part:
    found: list[Listed] = []
    asked = 0
    namespaces = iter((namespace,)) if namespace is not None else _namespaces(children, (), behind.namespace)
    last = behind
    for levels in namespaces:
        if asked == NAMESPACES or len(found) == most or stopped():
            return Part(tuple(found), last)
        begin = behind.name if levels == behind.namespace else ""
        last = Place(levels, _LAST)
        if begin == _LAST or not enter(levels):
            continue
        asked += 1
        more = most - len(found)
        # One more than fits tells whether this namespace has further ones.
        names = heapq.nsmallest(more + 1, (pair for pair in _names(client, levels) if pair[0] > begin))
        found += [
            Listed(TableRef(alias, levels, name), kind, Place(levels, name)) for name, kind in names[:more]
        ]
        if len(names) > more:
            return Part(tuple(found), found[-1].place)
    return Part(tuple(found), None)


def _namespaces(children: _Children, above: Namespace, begin: Namespace) -> Iterator[Namespace]:
    """Yield the namespaces from ``begin`` on that are below one, each before those inside it."""
    depth = len(above)
    for levels in sorted(children(above)):
        if levels[: depth + 1] < begin[: depth + 1]:
            continue
        if levels >= begin:
            yield levels
        yield from _namespaces(children, levels, begin)


def _known_children(
    known: KnownNamespaces | None, source: str, client: Catalog, above: Namespace
) -> AbstractSet[Namespace]:
    ask = partial(_children, client, above)
    return ask() if known is None else known.below(source, above, ask)


def _children(client: Catalog, above: Namespace) -> set[Namespace]:
    """Return the namespaces directly below one; some clients repeat the namespace itself, or go deeper.

    Databases of Glue and Hive have none below them: a dot in a name is part of the name.
    """
    if _is_flat(client):
        return set() if above else set(map(tuple, client.list_namespaces()))
    try:
        found = client.list_namespaces(above) if above else client.list_namespaces()
    except _NOTHING:
        return set()
    return {levels for levels in map(tuple, found) if len(levels) == len(above) + 1 and levels[:-1] == above}


def _is_flat(client: Catalog) -> bool:
    """Test whether a catalog's namespaces are databases, with none inside another: Glue and Hive."""
    return hasattr(client, "_get_glue_table") or hasattr(client, "_get_hive_table")


def _names(client: Catalog, levels: Namespace) -> Iterable[tuple[str, str]]:
    """Return the names in a namespace, each with its kind; a name that has both is a table."""
    namespace = (".".join(levels),) if _is_flat(client) else levels
    try:
        tables = {identifier[-1] for identifier in client.list_tables(namespace)}
        views = {identifier[-1] for identifier in _views(client, namespace)}
    except _NOTHING:
        return ()
    return [*((name, _TABLE) for name in tables), *((name, _VIEW) for name in views - tables)]


def _views(client: Catalog, namespace: Namespace) -> Iterable[tuple[str, ...]]:
    try:
        return client.list_views(namespace)
    except NotImplementedError:  # a catalog without views
        return ()
