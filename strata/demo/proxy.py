"""The demo's identity proxy: an ASGI wrapper per port that gives every caller one fixed identity.

As the product page's nginx does, it drops every identity header of the caller, under any spelling that some
layer may confuse with one, and sets its own.
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
    """The identity that a port gives to all callers.

    Attributes:
        principal: Id of the user.
        scopes: Scopes, separated by spaces.
        tenant: The tenant.
    """

    principal: str
    scopes: str
    tenant: str

    def headers(self, token: str) -> dict[str, str]:
        """Return the identity headers (wire contract, "Identity").

        Args:
            token: The secret that proves the proxy.
        """
        return {
            TOKEN_HEADER: token,
            PRINCIPAL_HEADER: self.principal,
            SCOPES_HEADER: self.scopes,
            TENANT_HEADER: self.tenant,
        }


# The two callers of the product page, and a caller of another tenant, without a port.
DEMO_USER = Identity("demo-user", "notebook:read notebook:write notebook:execute", "demo-team")
DEMO_ADMIN = Identity("demo-admin", "admin:* notebook:*", "demo-team")
OTHER_USER = Identity("other-user", "notebook:read notebook:write notebook:execute", "other-team")


def inject_identity(app: App, headers: Mapping[str, str]) -> App:
    """Return ``app`` behind a proxy that sets these headers and drops the caller's.

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

    proxied.opens_socket = getattr(app, "opens_socket", None)  # type: ignore[attr-defined]  # see `Protocol`
    return proxied


def _folded(name: bytes) -> bytes:
    """Return the folded form of a header name: equal for names that CGI-like layers confuse."""
    return _NO_LETTER_OR_DIGIT.sub(b"-", name.lower()).strip(b"-")
