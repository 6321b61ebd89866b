"""Serve the metrics on a port of their own, without an identity; no other route is on it."""

from __future__ import annotations

import trio

from strata.http.asgi import App, Receive, Scope, Send
from strata.observability.metrics import expose
from strata.tenants import Registry

PATHS = ("/metrics", "/metrics/prometheus")

Answer = tuple[int, bytes, str]
"""Status, body and content type."""

TEXT = "text/plain; charset=utf-8"


def metrics_app(registry: Registry) -> App:
    """Return an ASGI application that answers GET and HEAD on :data:`PATHS` with the metrics.

    Other methods are answered with 405, other paths with 404, and a scrape that took too long with 503.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        while (await receive()).get("more_body", False):
            pass  # an answer before the request's end would disturb the connection
        status, text, content_type = await _answer(registry, scope)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(text)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:  # noqa: PLR2004  # RFC 9110, section 15.5.6
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})

    return app


async def _answer(registry: Registry, scope: Scope) -> Answer:
    if scope["path"] not in PATHS:
        return 404, b"Only /metrics is here.\n", TEXT
    if scope["method"] not in {"GET", "HEAD"}:
        return 405, b"Only GET and HEAD.\n", TEXT
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    try:
        text, content_type = await expose(registry, accept.decode("latin-1"))
    except trio.TooSlowError:
        return 503, b"The metrics took too long to write.\n", TEXT
    return 200, text, content_type
