"""Metrics on the main port: for operators, so behind a scope; they name every tenant."""

from quart import Blueprint, Response, request
from quart_schema import document_response, tag

from strata.http.bodies import ProblemAnswer
from strata.http.context import context, require_scope
from strata.observability.metrics import expose

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@blueprint.get("/metrics/prometheus")
@tag(["operations"])
@document_response(ProblemAnswer, 403)
async def metrics() -> Response:
    """Prometheus text, or OpenMetrics when asked for; needs ``admin:metrics``."""
    require_scope("admin:metrics")
    text, content_type = expose(context().registry, request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)
