"""Serve the metrics on the main port, behind a scope: they name every tenant."""

import trio
from quart_schema import tag

from strata.http.api.openapi import answers, refuses
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.observability.metrics import expose


@tag(["operations"])
@answers(200, "The metrics.", "text/plain", "application/openmetrics-text")
@refuses(403, 503)
async def metrics(call: Call) -> Answer:
    """Prometheus text, or OpenMetrics if ``Accept`` names it; needs ``admin:metrics``."""
    call.context.require_admin("admin:metrics", "admin/metrics")
    accept = ",".join(value.decode("latin-1") for name, value in call.headers if name == b"accept")
    try:
        text, content_type = await expose(call.context.registry, accept)
    except trio.TooSlowError:
        raise ProblemError(
            Problem(503, "The metrics took too long to write.", "metrics_timed_out", retry_after=1)
        ) from None
    return Answer((("Content-Type", content_type),), text)
