"""The surface, one module a resource."""

import re

from quart import Quart

from strata.http.api.converters import VersionConverter
from strata.http.door.fast_routes import PlainRoute
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

_ID = "([A-Za-z0-9_-]{1,128})"

PLAIN = (
    PlainRoute("POST", re.compile("/v1/materialize"), materialize.build),
    PlainRoute(
        "GET", re.compile(f"/v1/artifacts/{_ID}/v/({VersionConverter.regex})/data"), artifacts.read_data
    ),
    PlainRoute("GET", re.compile(f"/v1/streams/{_ID}"), streams.read_stream),
)
"""Routes that are answered at the door."""


def register(app: Quart, *, personal: bool) -> None:
    """Add every route to ``app``.

    Args:
        app: The application.
        personal: Whether direct writes are left to their own routes; in service mode they are refused.
    """
    for blueprint in (
        health.blueprint,
        materialize.blueprint,
        streams.blueprint,
        builds.blueprint,
        artifacts.blueprint,
        lineage.blueprint,
        names.blueprint,
        cache.blueprint,
        acl.blueprint,
        metrics.blueprint,
        me.blueprint,
        tenants.blueprint,
        limits.blueprint,
        server.blueprint,
        audit.blueprint,
    ):
        app.register_blueprint(blueprint)
    if not personal:
        app.register_blueprint(writes.blueprint)
