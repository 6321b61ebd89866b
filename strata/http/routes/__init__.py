"""The surface, one module a resource."""

from quart import Quart

from strata.http.routes import artifacts, builds, cache, health, materialize, metrics, names, streams, writes


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
        names.blueprint,
        cache.blueprint,
        metrics.blueprint,
    ):
        app.register_blueprint(blueprint)
    if not personal:
        app.register_blueprint(writes.blueprint)
