"""Serve the metrics on the main port, behind a scope: they name every tenant."""

import trio
from quart import Blueprint, Response, request
from quart_schema import tag

from strata.http.api.openapi import answers, refuses
from strata.http.door.context import context, require_admin
from strata.http.problems import Problem, ProblemError
from strata.observability.metrics import expose

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@blueprint.get("/metrics/prometheus")
@tag(["operations"])
@answers(200, "The metrics.", "text/plain", "application/openmetrics-text")
@refuses(403, 503)
async def metrics() -> Response:
    """Prometheus text, or OpenMetrics if ``Accept`` names it; needs ``admin:metrics``."""
    require_admin("metrics")
    try:
        text, content_type = await expose(context().registry, ",".join(request.headers.getlist("Accept")))
    except trio.TooSlowError:
        raise ProblemError(
            Problem(503, "The metrics took too long to write.", "metrics_timed_out", retry_after=1)
        ) from None
    return Response(text, content_type=content_type)
