"""Refuse what pages of other sites make a browser send, with its user's identity. Pure.

A page of any site can make a browser post to this server, as long as the request is one that an HTML form
could send: the browser adds the user's cookies, and the proxy the identity. In personal mode a page can also
read answers, once its own host name points at this machine (DNS rebinding). Programs send none of these
headers.
"""

from __future__ import annotations

import ipaddress
import re

import attrs

from strata.auth import Headers
from strata.http.door.routing import joined
from strata.http.problems import Problem

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods without an effect (RFC 9110, section 9.2.1)."""

_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::(?P<port>[0-9]{0,5}))?")
_ORIGIN = re.compile(rf"(?P<scheme>https?)://{_AUTHORITY.pattern}", re.IGNORECASE)
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)
_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})
_PORTS = {"http": 80, "https": 443}

FOREIGN_HOST = Problem(
    403,
    "The Host of this request is none of this server's names; if it is one, add it to allowed_hosts.",
    "foreign_host",
)
FOREIGN_SITE = Problem(
    403,
    "A page of another site sent this request (Origin, Sec-Fetch-Site); if the page is trusted, add its host "
    "to allowed_hosts.",
    "foreign_site",
)
NOT_JSON = Problem(
    415, "A body is JSON here: send it with Content-Type: application/json.", "unsupported_media_type"
)
ENCODED = Problem(
    415,
    "A body is taken as it is: send it without Content-Encoding.",
    "unsupported_content_encoding",
    headers=(("Accept-Encoding", "identity"),),
)


@attrs.frozen
class TrustedHosts:
    """Host names under which users reach this server, and whose pages may send it requests.

    Attributes:
        names: The names that the operator allows, in lower case and without ports.
        checked: Whether the ``Host`` of every request must be one of the server's names.
        forwarded: Whether a proxy in front is trusted to state the user's host in ``X-Forwarded-Host``.
        own: Further names of the server, in lower case; pages of other ports under them are foreign.
        addresses: Whether every IP address is one of the server's names, and not only those of loopback. An
            attacker's page has a host name.
    """

    names: frozenset[str] = frozenset()
    checked: bool = False
    forwarded: bool = False
    own: frozenset[str] = frozenset()
    addresses: bool = False

    def refuse_host(self, headers: Headers) -> Problem | None:
        """Return the refusal of a request under another host's name; None if there is nothing to refuse.

        A request without ``Host`` passes: it is of HTTP/1.0, which no browser speaks.
        """
        if not self.checked:
            return None
        host = self._hosts(headers)[-1:]
        return FOREIGN_HOST if host and not self._is_own(host[0]) else None

    def refuse_site(self, method: str, headers: Headers) -> Problem | None:
        """Return the refusal of a state-changing request that another site's page sent; else None.

        ``Sec-Fetch-Site`` is the browser's own word. A browser that does not send it sends ``Origin``.
        """
        if method in SAFE_METHODS or _BROWSERS.isdisjoint(dict(headers)):
            return None
        site, origin = joined(headers, b"sec-fetch-site"), joined(headers, b"origin")
        if site in ("same-origin", "none"):
            return None
        match = _ORIGIN.fullmatch(origin or "")
        if match is not None:
            if _name(match) in self.names:
                return None
            if site is None and any(_same(match, host) for host in self._hosts(headers)):
                return None
        return FOREIGN_SITE

    def _hosts(self, headers: Headers) -> list[str]:
        """Return the hosts that a request names; the user's, as far as a trusted proxy states it, is last."""
        found = joined(headers, b"host")
        hosts = [] if found is None else [found]
        if self.forwarded and (stated := joined(headers, b"x-forwarded-host")):
            hosts += [host.strip() for host in reversed(stated.split(","))]
        return hosts

    def _is_own(self, host: str) -> bool:
        match = _AUTHORITY.fullmatch(host)
        if match is None:
            return False
        name = _name(match)
        if name in self.names or name in self.own:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses or ("localhost" in self.own and address.is_loopback)


def refuse_body(method: str, headers: Headers, body: bytes) -> Problem | None:
    """Return the refusal of a body that is not declared as plain JSON; None if there is nothing to refuse.

    An HTML form cannot send JSON under its own type. A body of a safe method has no effect and is ignored.
    """
    if not body or method in SAFE_METHODS:
        return None
    coding, kind = joined(headers, b"content-encoding"), joined(headers, b"content-type")
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        return ENCODED
    return None if kind == "application/json" or _JSON.fullmatch(kind or "") else NOT_JSON


def _name(match: re.Match[str]) -> str:
    return (match["v6"] or match["name"]).lower()


def _same(origin: re.Match[str], host: str) -> bool:
    """Whether an origin has a request's host and port; a port that is left out is the scheme's."""
    match = _AUTHORITY.fullmatch(host)
    if match is None or _name(match) != _name(origin):
        return False
    default = _PORTS[origin["scheme"].lower()]
    return int(match["port"] or default) == int(origin["port"] or default)
