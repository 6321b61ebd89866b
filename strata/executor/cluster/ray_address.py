"""Find out how the head of a Ray cluster is reached that has an address of the loopback."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final

CONNECT_SECONDS: Final = 5.0
"""Seconds to wait for an answer of the head on this machine's own address."""

LOOPBACK_ONLY: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment that makes Ray leave a loopback address as it is, on any system."""

_ELSEWHERE: Final = ("203.0.113.1", 9)
"""An address of no machine (RFC 5737), by which the system names the interface that leads elsewhere."""


def environment_for(address: str) -> dict[str, str]:
    """Return the environment that Ray needs to join a cluster.

    Ray replaces a loopback address by the address of this machine's interface. A head that listens on the
    loopback alone is not reached there: joining it ends after minutes, without a cluster.

    Args:
        address: Of the head, as ``host:port``; others, as ``auto``, need nothing.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not _is_loopback(host.strip("[]")):
        return {}
    try:
        own = _own_address()
        socket.create_connection((own, int(port)), CONNECT_SECONDS).close()
    except OSError:
        return dict(LOOPBACK_ONLY)
    return {}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _own_address() -> str:
    """Return the address of the interface that leads elsewhere; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ELSEWHERE)
        return str(probe.getsockname()[0])
