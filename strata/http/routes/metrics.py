"""Metrics on the main port: behind a scope, for they name every tenant."""

from quart_schema import tag

from strata.http.api.openapi import answers, refuses
from strata.http.door.routing import Answer, Call
from strata.observability.metrics import expose


@tag(["operations"])
@answers(200, "The metrics.", "text/plain", "application/openmetrics-text")
@refuses(403)
async def metrics(call: Call) -> Answer:
    """Prometheus text, or OpenMetrics when asked for; needs ``admin:metrics``."""
    call.context.require_admin("admin:metrics", "admin/metrics")
    text, content_type = await expose(call.context.registry, call.header(b"accept") or "")
    return Answer((("Content-Type", content_type),), text)
