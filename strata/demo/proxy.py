"""The demo's proxy, one small ASGI wrapper a port: it authenticates nobody and says the same of everybody.

What it does to headers is what the product page's nginx does: it drops every identity header the caller
sends, under any spelling some layer may take for it, and sets its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from strata.auth import PRINCIPAL_HEADER, SCOPES_HEADER, TENANT_HEADER, TENANT_HEADER_ALIAS, TOKEN_HEADER

if TYPE_CHECKING:
    from strata.http.asgi import App, Receive, Scope, Send

_NO_LETTER_OR_DIGIT = re.compile(rb"[^0-9a-z]")


@attrs.frozen
class Identity:
    """Whom a port speaks for."""

    principal: str
    scopes: str
    tenant: str

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers that say so (wire contract, "Identity").

        Args:
            token: The secret that proves the proxy.
        """
        return {
            TOKEN_HEADER: token,
            PRINCIPAL_HEADER: self.principal,
            SCOPES_HEADER: self.scopes,
            TENANT_HEADER: self.tenant,
        }


# The two callers of the product page, and one of another tenant, who has no port of their own.
DEMO_USER = Identity("demo-user", "notebook:read notebook:write notebook:execute", "demo-team")
DEMO_ADMIN = Identity("demo-admin", "admin:* notebook:*", "demo-team")
OTHER_USER = Identity("other-user", "notebook:read notebook:write notebook:execute", "other-team")


def inject_identity(app: App, headers: Mapping[str, str]) -> App:
    """Return ``app`` as seen through a proxy that sets these headers and lets no caller set them.

    Args:
        app: An ASGI application.
        headers: The identity, from :meth:`Identity.headers`.
    """
    owned = {_folded(name.encode()) for name in (*headers, TENANT_HEADER_ALIAS)}
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            kept = [(name, value) for name, value in scope["headers"] if _folded(name) not in owned]
            scope = {**scope, "headers": kept + added}
        await app(scope, receive, send)

    return proxied


def _folded(name: bytes) -> bytes:
    """Return the one form of all names that CGI-like layers take for one, as ``X_Strata_Principal``."""
    return _NO_LETTER_OR_DIGIT.sub(b"-", name.lower()).strip(b"-")
