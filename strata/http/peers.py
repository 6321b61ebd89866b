"""Peer addresses, as limits count them."""

from __future__ import annotations

import ipaddress

UNIX = "unix"
"""The key of all peers on a Unix socket, which have no address."""

IPV6_BITS = 64
"""Leading bits of an IPv6 address that are counted: one host may use any address of its /64 network."""


def peer_key(host: str | None) -> str:
    """Return the key under which a peer's connections and failures are counted.

    An IPv6 address counts as its network, an IPv4-mapped one as the IPv4 address; a ``host`` that is no IP
    address is its own key.

    Args:
        host: The peer's address; None on a Unix socket.
    """
    if host is None:
        return UNIX
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_BITS), strict=False).network_address)
