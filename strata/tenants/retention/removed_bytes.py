"""Remove the bytes of removed versions, which no request finds any more.

A reader that has a result open goes on reading: the system keeps an open file, also without its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from strata.artifacts import tenant_prefix
from strata.artifacts.retention.contract import Removed
from strata.artifacts.servers.contract import Claim
from strata.outcomes import RefusalError
from strata.tenants.shared.os_errors import error_name
from strata.tenants.shared.resources import Resources

PAGE: Final = 50
"""Removed versions that are read in one call of the store."""

log = structlog.get_logger(__name__)


async def remove_bytes(resources: Resources, removed: Iterable[Removed]) -> int:
    """Remove the bytes of removed versions that no other version has; returns the bytes that are free now.

    What cannot be removed now stays pending, for the next collection or start.
    """
    freed = 0
    for one in removed:
        if one.content_sha256 is None:
            continue
        try:
            freed += await _remove(resources, one, one.content_sha256)
        except RefusalError as error:
            log.warning("bytes not removed", tenant=one.tenant, code=error.refused.code)
        except OSError as error:
            log.warning("bytes not removed", tenant=one.tenant, error=error_name(error))
    if freed and resources.disk_space is not None:
        resources.disk_space.note_written(-freed)
    return freed


async def remove_pending(resources: Resources, tenant: str, *, of_all: bool = False) -> int:
    """Remove what earlier removals have left, each once; returns the bytes that are free now.

    Args:
        resources: The process's shared resources.
        tenant: The tenant, whose share of threads is used.
        of_all: Whether to remove what is left of all tenants.

    Raises:
        RefusalError: If the store does not answer.
    """
    freed, last = 0, None
    pending = partial(resources.retention.pending, PAGE, tenant=None if of_all else tenant)
    while page := await resources.ask(tenant, pending, after=last):
        last = page[-1]
        freed += await remove_bytes(resources, page)
    return freed


async def _remove(resources: Resources, removed: Removed, sha256: str) -> int:
    tenant, prefix = removed.tenant, tenant_prefix(removed.tenant)
    retention, blobs = resources.retention, resources.blobs
    async with resources.blob_locks.holding(prefix, sha256):
        servers = resources.servers
        if servers is None:
            needed = await resources.ask(tenant, retention.is_needed, tenant, sha256)
        else:
            claim = await resources.write(tenant, servers.claim, removed)
            if claim is Claim.BUSY or not servers.fresh:  # it stays pending
                return 0
            needed = claim is Claim.NEEDED
        if not needed:
            with resources.lent.removing(tenant, (prefix, sha256)) as free:
                if not free:  # it stays pending: a proxy may be about to open it
                    return 0
                threads = resources.threads.network if resources.remote_blobs else resources.threads.disk
                await threads.run(tenant, partial(blobs.delete, prefix, sha256), keep=True)
        await resources.write(tenant, retention.bytes_gone, removed)
    return 0 if needed else removed.byte_size
