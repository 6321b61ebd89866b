"""Decide where a URL may lead: its host is resolved once, and only addresses that were checked are used."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import attrs
import trio

RESOLVE_SECONDS: Final = 10.0
"""Seconds to resolve a host name; then the call fails."""

MOST_URL_CHARACTERS: Final = 8192
"""Most characters of a URL; a longer one is refused."""

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
_METADATA: Final = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
_PORTS: Final = {"http": 80, "https": 443}


class UrlError(Exception):
    """A URL is malformed, or leads where it may not; the message says why, without the URL's query."""


@attrs.frozen
class AddressRules:
    """Which addresses may be connected to; link-local, multicast and unspecified ones never.

    Nor those of metadata services outside of the link-local ranges, which hand out the machine's credentials.

    Attributes:
        private: Whether loopback and private addresses are permitted, as inside a cluster.
        hosts: Hosts, in lower case, for which they are permitted all the same; ``.suffix`` stands for all
            hosts below it.
    """

    private: bool = False
    hosts: Collection[str] = ()

    def check(self, host: str, address: Address) -> None:
        """Check an address of a host.

        Raises:
            UrlError: If it may not be connected to.
        """
        real = _inner(address)
        if real.is_link_local or real.is_multicast or real.is_unspecified or real in _METADATA:
            raise UrlError(f"{host} has the address {address}, which no call may reach")
        if real.is_global and real not in _SHARED:
            return
        if not (self.private or self._is_permitted(host)):
            raise UrlError(f"{host} has the address {address}, which is not public")

    def _is_permitted(self, host: str) -> bool:
        return any(host.endswith(one) if one.startswith(".") else host == one for one in self.hosts)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@attrs.frozen
class Target:
    """Where a URL leads.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Its host in lower case, without brackets.
        port: Its port.
        path: Its path with its query: the request target.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == _PORTS[self.scheme] else f"{shown}:{self.port}"


def parse_url(url: str) -> Target:
    """Return where a URL leads.

    Raises:
        UrlError: If it is no URL of http or https with a host, or has a user, a fragment or odd characters.
    """
    if len(url) > MOST_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise UrlError("it is no URL: only printable ASCII characters without spaces can be in one")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        raise UrlError("it is no URL") from None
    if parts.scheme not in _PORTS:
        raise UrlError("its scheme is neither http nor https")
    if not host or "\\" in parts.netloc or parts.fragment:
        raise UrlError("it has no host, or a fragment")
    if "@" in parts.netloc:
        raise UrlError("it has a user or a password; give a token in its own setting")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


async def addresses_of(target: Target, rules: AddressRules) -> list[str]:
    """Resolve the host of a URL once, and return its addresses in the order to try.

    All of them are checked: a name with one forbidden address is refused, for which one a later lookup
    returned first would be chance.

    Raises:
        UrlError: If it does not resolve, or an address may not be connected to.
    """
    try:
        with trio.fail_after(RESOLVE_SECONDS):
            found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError):
        raise UrlError(f"the host {target.host} cannot be resolved") from None
    texts = list(dict.fromkeys(str(one[4][0]) for one in found))
    for text in texts:
        rules.check(target.host, ipaddress.ip_address(text.partition("%")[0]))
    return texts
