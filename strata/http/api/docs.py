"""The description of the surface for people: one page from this origin, without any outside asset."""

from __future__ import annotations

from html import escape
from typing import Any

from quart import current_app
from quart_schema import hide

from strata.http.door.error_pages import wants_page
from strata.http.door.routing import Answer, Call
from strata.ui import installed_pages

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h2{border-bottom:1px solid #ccc;margin-top:2.5rem}code{font:14px ui-monospace,monospace}
article{margin:1rem 0;padding:.75rem 1rem;border:1px solid #ddd;border-radius:6px}
.method{display:inline-block;min-width:3.5rem;font-weight:700}table{border-collapse:collapse}
td,th{padding:.15rem .75rem .15rem 0;text-align:left;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}article{border-color:#444}}
"""


@hide
async def page(call: Call) -> Answer:
    """Lead a browser to the reader among the pages; without them, render the OpenAPI document as a page."""
    if wants_page(call.headers) and installed_pages() is not None:
        return Answer(
            (("Location", "ui/api"), ("Cache-Control", "no-store"), ("Vary", "Accept")), b"", status=303
        )
    document = current_app.extensions["QUART_SCHEMA"].openapi_provider.schema()
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    )
    return Answer(headers, render(document).encode())


def render(document: dict[str, Any]) -> str:
    """Return the page of an OpenAPI document; everything in it is escaped."""
    info = document["info"]
    known = document["components"]["schemas"]
    groups: dict[str, list[str]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in sorted(operations.items()):
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_operation(path, method, operation, known))
    body = "".join(f"<h2>{escape(group)}</h2>{''.join(items)}" for group, items in sorted(groups.items()))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description') or '')}</p>"
        f'<p>The same for machines: <a href="/openapi.json">/openapi.json</a> '
        f"(OpenAPI {escape(document['openapi'])}).</p>"
        f"{body}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], known: dict[str, Any]) -> str:
    text = escape(operation.get("description") or operation.get("summary") or "")
    request = ""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        request = f"<p>Body</p>{_fields(media.get('schema', {}))}"
    answers = "".join(
        f"<tr><td><code>{escape(str(status))}</code></td><td>{escape(_names(answer, known))}</td></tr>"
        for status, answer in sorted(operation.get("responses", {}).items())
    )
    return (
        f'<article><span class="method">{escape(method.upper())}</span><code>{escape(path)}</code>'
        f"<p>{text}</p>{request}<p>Answers</p><table>{answers}</table></article>"
    )


def _names(answer: dict[str, Any], known: dict[str, Any]) -> str:
    found: list[str] = []
    for kind, media in answer.get("content", {}).items():
        schema = media["schema"]
        named = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        found.append(", ".join(named.get("properties", [kind])))
    return "; or ".join(found) or "no body"


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(str(field.get('type', '')))}"
        f"{' (required)' if name in required else ''}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table>{rows}</table>"
