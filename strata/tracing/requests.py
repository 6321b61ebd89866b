"""Begin the spans of requests: of those that were let in, below the span that their proxy names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cachetools import LRUCache
from opentelemetry.context import Context

from strata.tracing.recorder import Tracing, parent_of, trace_id_of
from strata.tracing.spans import KnownRoute, Span

TRACES_REMEMBERED: Final = 10_000
"""Trace ids of which the tenant is known that used them first; the one used longest ago is forgotten."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"})


class RequestTracing:
    """Begins spans; see :class:`strata.tracing.spans.RequestTracer`.

    A request whose ``traceparent`` names a trace of another tenant begins a trace of its own.

    Args:
        tracing: Makes the spans.
        routes: The routes that name spans: the path itself may hold names that users gave.
    """

    def __init__(self, tracing: Tracing, routes: Sequence[KnownRoute] = ()) -> None:
        self.tracing = tracing
        self._routes = routes
        self._tenants: LRUCache[int, str] = LRUCache(TRACES_REMEMBERED)

    def begin(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        method: str,
        path: str,
        request_id: str | None = None,
        tenant: str | None = None,
    ) -> Span:
        """Start the span of a request, to be opened by ``with``.

        Args:
            headers: The request's headers, with names in lower case.
            method: Its method.
            path: Its path.
            request_id: Its id; None: it has none.
            tenant: The tenant that it works for; None: its caller says that, and is believed.
        """
        parent = parent_of(headers)
        trace_id = trace_id_of(parent)
        if trace_id and tenant is not None and self._tenants.setdefault(trace_id, tenant) != tenant:
            parent = Context()
        method = method if method in _METHODS else "other"
        route = self._route(method, path)
        span = self.tracing.request(method if route is None else f"{method} {route}", parent)
        span.set("http.request.method", method)
        span.set("http.route", route)
        span.set("strata.request_id", request_id)
        span.set("strata.tenant", tenant)
        return span

    def _route(self, method: str, path: str) -> str | None:
        wanted = "GET" if method in ("HEAD", "CONNECT") else method
        return next(
            (name for verb, known, name in self._routes if verb == wanted and known.fullmatch(path)), None
        )
