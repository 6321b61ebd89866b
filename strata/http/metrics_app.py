"""The metrics on a listener of their own, for whoever can reach it: nothing else is behind it."""

from __future__ import annotations

from strata.http.asgi import App, Receive, Scope, Send
from strata.observability.metrics import expose
from strata.tenants import Registry

PATHS = ("/metrics", "/metrics/prometheus")


def metrics_app(registry: Registry) -> App:
    """Return an ASGI application that answers with the metrics, without asking who wants them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        while (await receive()).get("more_body", False):
            pass  # an answer before the request's end would disturb the connection
        status, text, content_type = 404, b"Only /metrics is here.\n", "text/plain; charset=utf-8"
        if scope["path"] in PATHS:
            status, text = 405, b"Only GET and HEAD.\n"
            if scope["method"] in {"GET", "HEAD"}:
                accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
                text, content_type = await expose(registry, accept.decode("latin-1"))
                status = 200
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
