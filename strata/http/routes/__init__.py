"""The surface: the table of all routes. Handlers are in one module a resource."""

from strata.http.api import docs
from strata.http.door.routing import Route
from strata.http.routes import (
    artifacts,
    builds,
    cache,
    health,
    lineage,
    materialize,
    me,
    metrics,
    names,
    streams,
    writes,
)
from strata.http.routes.admin import acl, audit, limits, server, tenants

_ARTIFACT = "/v1/artifacts/<artifact_id>/v/<version:version>"
_TENANT = "/v1/admin/tenants/<tenant>"

ROUTES = (
    Route("GET", "/health", health.live),
    Route("GET", "/health/ready", health.ready),
    Route("GET", "/docs", docs.page),
    Route("GET", "/metrics", metrics.metrics),
    Route("GET", "/metrics/prometheus", metrics.metrics),
    Route("POST", "/v1/materialize", materialize.materialize, hot=True),
    Route("POST", "/v1/artifacts/explain-materialize", materialize.explain),
    Route("GET", "/v1/streams/<stream_id>", streams.stream, hot=True),
    Route("GET", "/v1/builds/<build_id>", builds.build),
    Route("GET", "/v1/artifacts/builds/<build_id>", builds.build),
    Route("GET", "/v1/artifacts", artifacts.artifacts),
    Route("GET", "/v1/artifacts/stats", artifacts.stats),
    Route("GET", "/v1/artifacts/usage", artifacts.stats),
    Route("GET", _ARTIFACT, artifacts.artifact),
    Route("GET", f"{_ARTIFACT}/data", artifacts.data, hot=True),
    Route("GET", f"{_ARTIFACT}/lineage", lineage.lineage),
    Route("GET", f"{_ARTIFACT}/dependents", lineage.dependents),
    Route("GET", "/v1/artifacts/names/<path:name>/status", lineage.status),
    Route("GET", "/v1/names", names.names),
    Route("GET", "/v1/names/<path:name>", names.name),
    Route("POST", "/v1/cache/clear", cache.clear),
    Route("GET", "/v1/cache/stats", cache.stats),
    Route("POST", "/v1/cache/warm", cache.warm),
    Route("GET", "/v1/me", me.me),
    Route("POST", "/v1/admin/acl/explain", acl.explain),
    Route("POST", "/v1/admin/acl/reload", acl.reload),
    Route("GET", "/v1/admin/audit", audit.audit),
    Route("POST", "/v1/admin/drain", server.drain),
    Route("DELETE", "/v1/admin/drain", server.come_back),
    Route("GET", "/v1/admin/tenants", tenants.tenants),
    Route("GET", _TENANT, tenants.tenant),
    Route("POST", f"{_TENANT}/evict", tenants.evict),
    Route("POST", f"{_TENANT}/restart", tenants.restart),
    Route("POST", f"{_TENANT}/drain", tenants.drain),
    Route("POST", f"{_TENANT}/disable", tenants.disable),
    Route("POST", f"{_TENANT}/enable", tenants.enable),
    Route("GET", f"{_TENANT}/limits", limits.limits),
    Route("PATCH", f"{_TENANT}/limits", limits.change),
    Route("DELETE", f"{_TENANT}/limits", limits.go_back),
)
"""The routes of both modes."""

WRITES = (
    Route("PUT", "/v1/artifacts", writes.disabled),
    Route("DELETE", _ARTIFACT, writes.disabled),
    Route("PUT", f"{_ARTIFACT}/tags", writes.disabled),
    Route("DELETE", f"{_ARTIFACT}/tags/<key>", writes.disabled),
    Route("POST", "/v1/names", writes.disabled),
    Route("DELETE", "/v1/names/<path:name>", writes.disabled),
    Route("PUT", "/v1/names/<path:name>/aliases/<alias>", writes.disabled),
    Route("DELETE", "/v1/names/<path:name>/aliases/<alias>", writes.disabled),
)
"""The direct writes that service mode refuses."""

HOT = tuple(route for route in ROUTES if route.hot)
"""The routes that the front door enters."""
