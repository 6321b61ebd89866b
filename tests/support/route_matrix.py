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
    allow=(Rule("*", "notebooks/**"), Rule("*", "tables/wh/db/*"), Rule("*", "admin/**")),
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
NO_PATH = access(own=404, other_tenant=404, denied=404, no_scope=404, admin=404, wrong_principal=404)
"""Has nothing for programs, which the matrix plays."""
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
NOTEBOOK = access(own=403, other_tenant=403, denied=403, no_scope=200, admin=403, wrong_principal=403)
"""Needs a scope ``notebook:…``, which only ana's ``notebook:*`` is here."""
NO_WRITES = access(own=403, other_tenant=403, denied=403, no_scope=403, admin=403, wrong_principal=403)
"""Direct writes, which service mode forbids."""
SIGNED = access(
    nobody=403, own=403, other_tenant=403, denied=403, no_scope=403, admin=403, wrong_principal=403
)
"""Needs a signed URL, which no caller here has; tests/service/test_pulls.py has the right ones."""

ROUTES: dict[str, dict[str, int]] = {
    "GET /health": OPEN,
    "GET /health/ready": OPEN,
    "GET /openapi.json": ANYONE,
    "GET /docs": ANYONE,
    "GET /": NO_PATH,
    "GET /ui/<name>": NO_PATH,
    "GET /ui/assets/<name>": NO_PATH,
    "POST /v1/materialize": TABLE,
    "POST /v1/artifacts/explain-materialize": TABLE,
    "GET /v1/streams/<stream_id>": STREAM,
    "GET /v1/builds/<build_id>": RESULT,
    "GET /v1/builds/<build_id>/log": RESULT,
    "GET /v1/artifacts/builds/<build_id>": RESULT,
    "POST /v1/builds/<build_id>/log": SIGNED,
    "POST /v1/builds/<build_id>/finalize": SIGNED,
    "GET /v1/artifacts/download": SIGNED,
    "POST /v1/artifacts/upload": SIGNED,
    "POST /v1/builds/<build_id>/cancel": RESULT,
    "GET /v1/artifacts": ANYONE,
    "GET /v1/artifacts/stats": ANYONE,
    "GET /v1/artifacts/usage": ANYONE,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/data": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/receipt": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/why": RESULT,
    "POST /v1/artifacts/gc": ADMIN,
    "POST /v1/artifacts/<artifact_id>/v/<version:version>/verify": ADMIN,
    "GET /v1/artifacts/by-provenance/<provenance_hash>": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/tags": RESULT,
    "POST /v1/artifacts/<artifact_id>/v/<version:version>/pin": NO_WRITES,
    "DELETE /v1/artifacts/<artifact_id>/v/<version:version>/pin": NO_WRITES,
    "GET /v1/registry/pending": ANYONE,
    "POST /v1/registry/pending/approve": ADMIN | {"admin": 404},
    "POST /v1/registry/pending/reject": ADMIN | {"admin": 404},
    "GET /v1/registry/audit": ANYONE,
    "GET /v1/registry/summary": ANYONE,
    "GET /v1/registry/artifacts": ANYONE,
    "GET /v1/events": ANYONE,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/lineage": RESULT,
    "GET /v1/artifacts/<artifact_id>/v/<version:version>/dependents": RESULT,
    "GET /v1/artifacts/names/<path:name>/status": RESULT,
    "GET /v1/catalogs": ANYONE,
    "GET /v1/tables": ANYONE,
    "GET /v1/tables/describe": TABLE,
    "GET /v1/tables/snapshots": TABLE,
    "GET /v1/tables/refs": TABLE,
    "GET /v1/tables/history": TABLE,
    "GET /v1/names": ANYONE,
    "GET /v1/names/<name:name>": RESULT,
    "GET /v1/names/<path:name>/aliases": RESULT,
    "GET /v1/names/<path:name>/aliases/<alias>": RESULT,
    "GET /v1/transforms": ANYONE,
    "POST /v1/cache/clear": ADMIN,
    "GET /v1/cache/stats": ADMIN,
    "POST /v1/cache/warm": ADMIN,
    "GET /metrics": ADMIN,
    "GET /metrics/prometheus": ADMIN,
    "POST /v1/admin/acl/explain": ADMIN,
    "POST /v1/admin/acl/reload": ADMIN,
    "POST /v1/admin/acl/sees": ADMIN,
    "POST /v1/admin/acl/draft": ADMIN,
    "GET /v1/notebooks": NOTEBOOK,
    "POST /v1/notebooks": NOTEBOOK | {"no scope": 201},
    "POST /v1/notebook-imports": NOTEBOOK | {"no scope": 201},
    "GET /v1/notebooks/<notebook>/export": NOTEBOOK,
    "GET /v1/notebooks/<notebook>": NOTEBOOK,
    "POST /v1/notebooks/<notebook>/edits": NOTEBOOK,
    "GET /v1/notebooks/<notebook>/revisions": NOTEBOOK,
    "GET /v1/notebooks/<notebook>/diff": NOTEBOOK | {"no scope": 400},
    "GET /v1/notebooks/<notebook>/session": NOTEBOOK,
    "POST /v1/notebooks/<notebook>/session/run": NOTEBOOK | {"no scope": 409},
    "POST /v1/notebooks/<notebook>/session/interrupt": NOTEBOOK,
    "GET /v1/notebooks/<notebook>/session/events": NOTEBOOK | {"no scope": 400},
    "GET /v1/notebooks/<notebook>/session/output": NOTEBOOK | {"no scope": 400},
    "POST /v1/notebooks/<notebook>/session/members": NOTEBOOK,
    "DELETE /v1/notebooks/<notebook>/session/members/<member>": NOTEBOOK | {"no scope": 409},
    "PUT /v1/notebooks/<notebook>/session/locks/<cell>": NOTEBOOK | {"no scope": 409},
    "DELETE /v1/notebooks/<notebook>/session/locks/<cell>": NOTEBOOK | {"no scope": 409},
    "POST /v1/notebooks/<notebook>/runs": NOTEBOOK | {"no scope": 409},
    "GET /v1/notebooks/<notebook>/runs": NOTEBOOK,
    "GET /v1/notebooks/<notebook>/runs/<run>": NOTEBOOK | {"no scope": 404},
    "POST /v1/notebooks/<notebook>/runs/<run>/cancel": NOTEBOOK | {"no scope": 404},
    "POST /v1/notebooks/<notebook>/schedules": NOTEBOOK | {"no scope": 201},
    "GET /v1/notebooks/<notebook>/schedules": NOTEBOOK,
    "PATCH /v1/notebooks/<notebook>/schedules/<schedule>": NOTEBOOK | {"no scope": 404},
    "DELETE /v1/notebooks/<notebook>/schedules/<schedule>": NOTEBOOK | {"no scope": 404},
    "DELETE /v1/notebooks/<notebook>": NOTEBOOK,
    "GET /v1/notebook-workers": NOTEBOOK,
    "GET /v1/admin/notebook-workers": ADMIN,
    "PATCH /v1/admin/notebook-workers/<worker>": ADMIN | {"admin": 404},
    "POST /v1/admin/notebook-workers/<worker>/drain": ADMIN | {"admin": 404},
    "POST /v1/admin/notebook-workers/<worker>/refresh": ADMIN | {"admin": 404},
    "PUT /v1/admin/notebook-workers/<worker>/tenants/<tenant>": ADMIN | {"admin": 404},
    "DELETE /v1/admin/notebook-workers/<worker>/tenants/<tenant>": ADMIN | {"admin": 404},
    "GET /v1/me": ANYONE,
    "GET /v1/admin/access-audit": TENANTS,
    "GET /v1/admin/audit": TENANTS,
    "GET /v1/admin/tenants": TENANTS,
    "PATCH /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>/builds": ONE_TENANT,
    "GET /v1/admin/tenants/<tenant>/streams": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/builds/stop": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/evict": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/restart": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/drain": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/disable": ONE_TENANT,
    "POST /v1/admin/tenants/<tenant>/enable": ONE_TENANT,
    "DELETE /v1/admin/tenants/<tenant>/limits": ONE_TENANT,
    "GET /v1/admin/servers": ADMIN,
    "POST /v1/admin/drain": ADMIN,
    "DELETE /v1/admin/drain": ADMIN,
    "PUT /v1/artifacts": NO_WRITES,
    "DELETE /v1/artifacts/<artifact_id>/v/<version:version>": NO_WRITES,
    "PUT /v1/artifacts/<artifact_id>/v/<version:version>/tags": NO_WRITES,
    "DELETE /v1/artifacts/<artifact_id>/v/<version:version>/tags/<key>": NO_WRITES,
    "POST /v1/names": NO_WRITES,
    "DELETE /v1/names/<name:name>": NO_WRITES,
    "PUT /v1/names/<path:name>/aliases/<alias>": NO_WRITES,
    "DELETE /v1/names/<path:name>/aliases/<alias>": NO_WRITES,
}

OWN_TENANT = {
    route: 403 if route.endswith(("/enable", "/disable")) else 200
    for route in ROUTES
    if "/admin/tenants/<tenant>" in route
}
"""Statuses for a tenant's administrator on its own tenant: only operators enable or disable it."""

SCAN = {"inputs": ["wh:db.events"], "transform": {"executor": "scan@v1", "params": {}}}

BODIES: dict[str, Any] = {
    "POST /v1/notebook-imports": {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []},
    "POST /v1/notebooks": {"title": "New", "cells": [{"source": "x = 1"}]},
    "POST /v1/notebooks/<notebook>/edits": {"revision": 1, "edits": [{"op": "insert", "source": "y = 1"}]},
    "POST /v1/notebooks/<notebook>/session/run": {"cells": None},
    "POST /v1/notebooks/<notebook>/session/members": {},
    "POST /v1/notebooks/<notebook>/runs": {},
    "POST /v1/notebooks/<notebook>/schedules": {"cron": "0 0 1 1 *"},
    "PATCH /v1/notebooks/<notebook>/schedules/<schedule>": {"paused": True},
    "PUT /v1/notebooks/<notebook>/session/locks/<cell>": {"member": "0" * 16},
    "PATCH /v1/admin/notebook-workers/<worker>": {"enabled": False},
    "PUT /v1/admin/notebook-workers/<worker>/tenants/<tenant>": {"max_concurrent": 1},
    "POST /v1/materialize": SCAN,
    "POST /v1/artifacts/explain-materialize": SCAN,
    "POST /v1/cache/warm": {"tables": [{"table": "wh:db.events"}]},
    "PATCH /v1/admin/tenants/<tenant>/limits": {"bulk_slots": 2},
    "POST /v1/registry/pending/approve": {"name": "none", "alias": "none"},
    "POST /v1/registry/pending/reject": {"name": "none", "alias": "none"},
    "POST /v1/admin/acl/explain": {"principal": "eve", "resource": "tables/wh/db/events"},
    "POST /v1/admin/acl/sees": {"principal": "zoe"},
    "POST /v1/admin/acl/draft": {"rules": 'default = "deny"'},
    "POST /v1/admin/tenants/<tenant>/builds/stop": {"all": True},
}

QUERIES = {
    **{f"GET /v1/tables/{what}": "uri=wh:db.events" for what in ("describe", "snapshots", "refs", "history")},
    "GET /v1/registry/artifacts": "tag_key=stage",
    "DELETE /v1/notebooks/<notebook>/session/locks/<cell>": f"member={'0' * 16}",
}
"""Queries of the routes that need one."""

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
    path = re.sub(r"<(?:[^:<>]*:)?([^<>]+)>", lambda part: known[part[1]], path)
    return f"{path}?{QUERIES[route]}" if route in QUERIES else path
