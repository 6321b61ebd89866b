"""Metrics on the main port: for operators, so behind a scope; they name every tenant."""

from quart import Blueprint, Response, request
from quart_schema import tag

from strata.http.api.openapi import answers, refuses
from strata.http.door.context import context, require_admin
from strata.observability.metrics import expose

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@blueprint.get("/metrics/prometheus")
@tag(["operations"])
@answers(200, "The metrics.", "text/plain", "application/openmetrics-text")
@refuses(403)
async def metrics() -> Response:
    """Prometheus text, or OpenMetrics when asked for; needs ``admin:metrics``."""
    require_admin("metrics")
    text, content_type = await expose(context().registry, request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)
