"""How many connections the process has file descriptors for."""

from __future__ import annotations

import resource

import structlog

RESERVED = 512
"""Descriptors for everything that is no client's connection: files, databases, catalogs."""

log = structlog.get_logger(__name__)


def connections_within(wanted: int) -> int:
    """Raise the soft limit of descriptors to the hard one, and return how many connections fit into it.

    Args:
        wanted: ``max_connections``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or wanted <= hard - RESERVED:
        return wanted
    fitting = max(1, hard - RESERVED)
    log.warning(
        "fewer connections than max_connections", fitting=fitting, max_connections=wanted, nofile=hard
    )
    return fitting
