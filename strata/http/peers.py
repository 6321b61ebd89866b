"""Who is at the other end of a connection, as far as limits are concerned."""

from __future__ import annotations

import ipaddress

UNIX = "unix"
"""The one key of everybody on a Unix socket: such a peer has no address."""

IPV6_BITS = 64
"""Bits of an IPv6 address that tell networks apart; within one, a host has as many addresses as it likes."""


def peer_key(host: str | None) -> str:
    """Return the key under which a peer's connections and failures are counted.

    Args:
        host: Its address; None on a Unix socket.
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
