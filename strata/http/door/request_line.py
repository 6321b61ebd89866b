"""The one line that the log has of each request."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from cachetools import LRUCache

from strata.http.asgi import Scope
from strata.http.door.context import Context
from strata.http.door.routing import SLASH
from strata.tables import TableRef
from strata.tenants.shared.authorizer import table_resource
from strata.tenants.stats.counters import TenantMetrics

TABLES_REMEMBERED: Final = 1024
"""Table URIs whose parsing is kept, as it takes 5 % of a small request; the oldest goes."""

LOGGED_URI_CHARACTERS: Final = 1024
"""Characters of the longest table URI that a line names; a longer one is left out."""

LOGGED_TABLES: Final = 4
"""Most tables of a request that its line names; the others are left out."""

PATH_CHARACTERS: Final = 128
"""Characters of a path that a line has; the rest is cut."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"})

log = structlog.get_logger("strata.access")


class RequestLine:
    """Writes the lines of requests.

    Args:
        metrics_of: Returns the counters of a tenant, whose denials are counted here; None: they are not.
    """

    def __init__(self, metrics_of: Callable[[str], TenantMetrics] | None = None) -> None:
        self._metrics_of = metrics_of
        self._tables: LRUCache[str, tuple[TableRef, str] | None] = LRUCache(TABLES_REMEMBERED)

    def write(self, found: Context, scope: Scope, seconds: float) -> None:
        """Write the line of a request that has ended.

        Args:
            found: What is known of it.
            scope: Its ASGI scope.
            seconds: Seconds that it took.
        """
        who, client = found.principal, scope.get("client")
        log.info(
            "request",
            tenant=who.tenant if who else None,
            principal=who.id if who else None,
            peer=client[0] if client else None,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            path=scope["path"].replace(SLASH, "%2F")[:PATH_CHARACTERS],
            status=found.status,
            bytes=found.sent,
            seconds=round(seconds, 6),
            **found.stages(seconds),
            broken=found.broken.code or found.broken.reason.value if found.broken else None,
            **self._named(found),
        )

    def _named(self, found: Context) -> dict[str, Any]:
        """Return what the log says of the tables that a request names, and of its refusal.

        A denied table is answered like a missing one, and told apart here only. What is no table that has
        been read since the start stays out: it is text of the request, and may hold anything.
        """
        fields: dict[str, Any] = {}
        denied = False
        if found.artifact is not None:
            fields["artifact"] = found.artifact
        if found.inputs and found.principal is not None:
            resources = found.registry.resources
            served, peek = found.status == HTTPStatus.OK, resources.catalogs.peek
            tables = [table for uri in found.inputs[:LOGGED_TABLES] if (table := self._table(found, uri))]
            known = [resource for ref, resource in tables if served or peek(ref) is not None]
            fields["tables"] = [resource.removeprefix("tables/") for resource in known]
            if found.problem is not None:
                may_read = resources.authorizer.reading
                denied = not all(may_read(found.principal, resource).allowed for _, resource in tables)
                if denied and self._metrics_of is not None:
                    self._metrics_of(found.principal.tenant).denied += 1
        if found.span is not None:
            fields["trace_id"] = found.span.trace_id
        if found.problem is not None:
            reason = "access_denied" if denied else found.problem.reason
            fields |= {"error": found.problem.error or found.problem.reason, "reason": reason}
            if found.problem.limit is not None:
                fields["limit"] = found.problem.limit.name
        return fields

    def _table(self, found: Context, uri: str) -> tuple[TableRef, str] | None:
        """Return the table that a URI names, and its resource for the rules; None if it names none."""
        if len(uri) > LOGGED_URI_CHARACTERS:
            return None
        if uri not in self._tables:
            ref = found.registry.resources.catalogs.resolve(uri)
            self._tables[uri] = (ref, table_resource(ref)) if isinstance(ref, TableRef) else None
        return self._tables[uri]
