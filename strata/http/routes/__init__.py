"""The surface, one module a resource."""

import re

from quart import Quart

from strata.http.converters import VersionConverter
from strata.http.plain import PlainRoute
from strata.http.routes import (
    access,
    admin_limits,
    admin_server,
    admin_tenants,
    artifacts,
    audit,
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
        access.blueprint,
        metrics.blueprint,
        me.blueprint,
        admin_tenants.blueprint,
        admin_limits.blueprint,
        admin_server.blueprint,
        audit.blueprint,
    ):
        app.register_blueprint(blueprint)
    if not personal:
        app.register_blueprint(writes.blueprint)
