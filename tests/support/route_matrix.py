"""The expected status of every route for every kind of caller, written by hand.

A new route needs one line in :data:`ROUTES`, with the kind of its access; a new path parameter or required
body one in :func:`path_of` or :data:`BODIES`. The callers are in :data:`CALLERS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quart import Quart
from service_kit import identity

from strata.acl import Policy, Rule
from strata.http.door.routing import Route
from strata.http.door.uploads import UploadRoute

CALLERS: dict[str, dict[str, str]] = {
    "own": identity("ana", "team-a"),
    "other tenant": identity("bob", "team-b"),
    "denied": identity("eve", "team-a", "admin:* artifacts:write"),
    "no scope": identity("ana", "team-a", "notebook:* admin admin:nothing"),
    "admin": identity("root", "team-a", "admin:*"),
    "tenant admin": identity("ada", "team-a", "admin:tenants admin:limits"),
    "wrong principal": identity("zoe", "team-a"),
    "nobody": {"X-Strata-Principal": "ana", "X-Tenant-ID": "team-a", "X-Strata-Scopes": "admin:*"},
    "wrong token": identity("root", "team-a", "admin:*") | {"X-Strata-Proxy-Token": "x" * 20},
}
"""Ana of team-a made all results; eve of the same team is denied every table and all administration.
``<tenant>`` in a path is team-c, to which no caller belongs."""

RULES = Policy(
    deny=(Rule("eve", "tables/**"), Rule("eve", "admin/**")),
    allow=(Rule("*", "tables/wh/db/*"), Rule("*", "admin/**")),
)


def access(*, nobody: int = 401, tenant_admin: int | None = None, **statuses: int) -> dict[str, int]:
    """Return the status for each caller.

    Args:
        nobody: Status without an identity, and with a wrong token.
        tenant_admin: Status for an administrator of another tenant; by default that of ``wrong_principal``.
        statuses: Statuses of the other callers, by name.
    """
    named = {name.replace("_", " "): status for name, status in statuses.items()}
    found = named["wrong principal"] if tenant_admin is None else tenant_admin
    return named | {"nobody": nobody, "wrong token": nobody, "tenant admin": found}


OPEN = access(own=200, other_tenant=200, denied=200, no_scope=200, admin=200, wrong_principal=200, nobody=200)
"""Needs no identity."""
ANYONE = access(own=200, other_tenant=200, denied=200, no_scope=200, admin=200, wrong_principal=200)
"""Needs an identity, and shows each caller only its own."""
TABLE = access(own=200, other_tenant=200, denied=404, no_scope=200, admin=200, wrong_principal=200)
"""Reads a table that the rules open to all but eve."""
RESULT = access(own=200, other_tenant=404, denied=404, no_scope=200, admin=200, wrong_principal=200)
"""Reads a result that was made of that table for team-a."""
STREAM = access(own=200, other_tenant=404, denied=404, no_scope=200, admin=200, wrong_principal=404)
"""Reads ana's stream: ana and administrators only."""
ADMIN = access(own=403, other_tenant=403, denied=403, no_scope=403, admin=200, wrong_principal=403)
"""Needs a scope ``admin:…`` and a rule that allows it."""
TENANTS = ADMIN | {"tenant admin": 200}
"""As ADMIN, and a tenant's administrator is shown the own tenant only."""
ONE_TENANT = ADMIN | {"tenant admin": 404}
"""As ADMIN, for one tenant: to a tenant's administrator another tenant does not exist."""
NO_WRITES = access(own=403, other_tenant=403, denied=403, no_scope=403, admin=403, wrong_principal=403)
"""Direct writes, which service mode forbids."""

ROUTES: dict[str, dict[str, int]] = {
    "GET /health": OPEN,
    "GET /health/ready": OPEN,
    "GET /openapi.json": ANYONE,
    "GET /docs": ANYONE,
    "POST /v1/materialize": TABLE,
    "POST /v1/artifacts/explain-materialize": TABLE,
    "GET /v1/streams/<stream_id>": STREAM,
    "GET /v1/builds/<build_id>": RESULT,
    "GET /v1/artifacts/builds/<build_id>": RESULT,
    "GET /v1/artifacts": ANYONE,
    "GET /v1/artifacts/stats": ANYONE,
    "GET /v1/artifacts/usage": ANYONE,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/data": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/lineage": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/dependents": RESULT,
    "GET /v1/artifacts/names/<path:name>/status": RESULT,
    "GET /v1/names": ANYONE,
    "GET /v1/names/<path:name>": RESULT,
    "POST /v1/cache/clear": ADMIN,
    "GET /v1/cache/stats": ADMIN,
    "POST /v1/cache/warm": ADMIN,
    "GET /metrics": ADMIN,
    "GET /metrics/prometheus": ADMIN,
    "POST /v1/admin/acl/explain": ADMIN,
    "POST /v1/admin/acl/reload": ADMIN,
    "GET /v1/me": ANYONE,
    "GET /v1/admin/audit": TENANTS,
    "GET /v1/admin/tenants": TENANTS,
    "PATCH /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/evict": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/restart": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/drain": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/disable": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/enable": ONE_TENANT,
    "DELETE /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "POST /v1/admin/drain": ADMIN,
    "DELETE /v1/admin/drain": ADMIN,
    "PUT /v1/artifacts": NO_WRITES,
    "DELETE /v1/artifacts/<artifact_id>/v/<version:version>": NO_WRITES,
    "PUT /v1/artifacts/<artifact_id>/v/<version:version>/tags": NO_WRITES,
    "DELETE /v1/artifacts/<artifact_id>/v/<version:version>/tags/<key>": NO_WRITES,
    "POST /v1/names": NO_WRITES,
    "DELETE /v1/names/<path:name>": NO_WRITES,
    "PUT /v1/names/<path:name>/aliases/<alias>": NO_WRITES,
    "DELETE /v1/names/<path:name>/aliases/<alias>": NO_WRITES,
}

OWN_TENANT = {
    route: 403 if route.endswith(("/enable", "/disable")) else 200 for route in ROUTES if "<tenant>" in route
}
"""Statuses for a tenant's administrator on its own tenant: only operators enable or disable it."""

SCAN = {"inputs": ["wh:db.events"], "transform": {"executor": "scan@v1", "params": {}}}

BODIES: dict[str, Any] = {
    "POST /v1/materialize": SCAN,
    "POST /v1/artifacts/explain-materialize": SCAN,
    "POST /v1/cache/warm": {"tables": [{"table": "wh:db.events"}]},
    "PATCH /v1/admin/tenants/<tenant>/limits": {"bulk_slots": 2},
    "POST /v1/admin/acl/explain": {"principal": "eve", "resource": "tables/wh/db/events"},
}

UNSEEN = ("other tenant", "denied")
"""Callers who may not see anything that ana made, in any response of any status."""


def routes_of(app: Quart) -> set[str]:
    """Return every route of an application, as in :data:`ROUTES`."""
    implied = {"HEAD", "OPTIONS"}  # added by Quart; HEAD is tested with GET
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - implied
    }


def has_entry(outside: UploadRoute | Route, known: Mapping[str, str]) -> bool:
    """Whether a route of the door, which may be in no application's table, has an entry."""
    return any(
        outside.method == route.partition(" ")[0] and _pattern(outside).fullmatch(path_of(route, known))
        for route in ROUTES
    )


def _pattern(outside: UploadRoute | Route) -> re.Pattern[str]:
    return outside.pattern if isinstance(outside, Route) else outside.path


def path_of(route: str, known: Mapping[str, str]) -> str:
    """Return the path of a route with known values for its parameters."""
    path = route.partition(" ")[2]
    return re.sub(r"<(?:[^:<>]*:)?([^<>]+)>", lambda part: known[part[1]], path)
