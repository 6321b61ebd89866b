"""Collect the results of one tenant that may go: the least recently used first, a page at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs
import structlog

from strata.artifacts import Act
from strata.artifacts.retention.contract import MOST_REMOVED, REMOVED_SECONDS, Unused, Usage
from strata.tenants.retention.removed_bytes import remove_bytes, remove_pending
from strata.tenants.shared.resources import Resources

ACTION: Final = "artifact.collect"
"""The action in the audit, one record for each page of results."""

AUTOMATIC: Final = "retention"
"""The principal and request id in the audit of what the server removes by itself."""

FIRST_USES: Final = 1000
"""Results without a known last use that are given one in a call of the store."""

log = structlog.get_logger(__name__)


@attrs.frozen
class Aim:
    """When results go.

    Attributes:
        min_idle: Seconds for which every result stays after its last use.
        max_idle: Seconds after which an unused result goes; None: it may stay.
        max_bytes: Bytes to which unused results are reduced; None: any.
        max_versions: Number to which they are reduced; None: any.
    """

    min_idle: float
    max_idle: float | None = None
    max_bytes: int | None = None
    max_versions: int | None = None

    def over(self, kept: Usage) -> bool:
        """Whether a tenant keeps more than it may."""
        return (self.max_bytes is not None and kept.stored_bytes > self.max_bytes) or (
            self.max_versions is not None and kept.versions > self.max_versions
        )

    def choose(self, page: Sequence[Unused], kept: Usage, now: float) -> tuple[Unused, ...]:
        """Return the results of a page, the least recently used first, that go.

        Args:
            page: Results that nothing holds.
            kept: What the tenant keeps.
            now: The time, in seconds since the epoch.
        """
        chosen = []
        for one in page:
            expired = self.max_idle is not None and one.used_at < now - self.max_idle
            if one.used_at >= now - self.min_idle or not (expired or self.over(kept)):
                break  # all that follow were used later
            chosen.append(one)
            kept = Usage(kept.stored_bytes - one.nbytes, kept.versions - 1)
        return tuple(chosen)


@attrs.frozen
class Collected:
    """What a collection has removed, or would remove.

    Attributes:
        results: Number of results.
        nbytes: Bytes of them and of their texts.
        left: What the tenant keeps afterwards.
    """

    results: int
    nbytes: int
    left: Usage


def automatic(tenant: str) -> Act:
    """Return the act of what the server removes by itself."""
    return Act(
        tenant=tenant, principal=AUTOMATIC, principal_tenant=tenant, action=ACTION, request_id=AUTOMATIC
    )


async def tell_uses(resources: Resources, tenant: str) -> None:
    """Tell the store which results of a tenant were used.

    Raises:
        RefusalError: If the store does not answer; the uses stay noted.
    """
    uses, retention = resources.uses.noted(tenant), resources.retention
    if uses:
        now = dict.fromkeys(uses, retention.now())
        await resources.write(tenant, retention.note_uses, tenant, now)
        resources.uses.told(tenant, uses)


async def collect(
    resources: Resources,
    tenant: str,
    aim: Aim,
    act: Act,
    *,
    dry_run: bool = False,
    pages: float = math.inf,
) -> Collected:
    """Remove the results of a tenant that go by an aim.

    Not those that something holds, that are being read, or that were found for a request meanwhile.

    Args:
        resources: The process's shared resources.
        tenant: The tenant.
        aim: When results go.
        act: Who collects, for the audit.
        dry_run: Remove nothing.
        pages: Most pages of :data:`~strata.artifacts.retention.contract.MOST_REMOVED` results that are looked
            at; what is behind them stays for the next collection.

    Raises:
        RefusalError: If the store does not answer.
    """
    retention = resources.retention
    await tell_uses(resources, tenant)
    while await resources.write(tenant, retention.note_first_uses, tenant, FIRST_USES) == FIRST_USES:
        pass
    now, kept = retention.now(), await resources.ask(tenant, retention.usage, tenant)
    unused = partial(retention.unused, tenant, before=now - aim.min_idle, limit=MOST_REMOVED)
    results, nbytes, last = 0, 0, None
    while pages > 0 and (page := await resources.ask(tenant, unused, after=last)):
        last, pages = page[-1], pages - 1
        free = [one for one in page if not resources.uses.in_use(tenant, (one.artifact_id, one.version))]
        chosen = aim.choose(free, kept, now)
        gone = chosen if dry_run else await _remove(resources, tenant, chosen, now - aim.min_idle, act)
        results, size = results + len(gone), sum(one.nbytes for one in gone)
        nbytes += size
        kept = Usage(kept.stored_bytes - size, kept.versions - len(gone))
        if len(chosen) < len(free) or len(page) < MOST_REMOVED:
            break
    if not dry_run:
        await remove_pending(resources, tenant)
        forget = partial(retention.forget_removed, before=now - REMOVED_SECONDS, limit=FIRST_USES)
        while await resources.write(tenant, forget, tenant) == FIRST_USES:
            pass
    if results and not dry_run:
        log.info("results collected", tenant=tenant, results=results, bytes=nbytes, by=act.principal)
    return Collected(results, nbytes, kept)


async def _remove(
    resources: Resources, tenant: str, chosen: Sequence[Unused], before: float, act: Act
) -> tuple[Unused, ...]:
    """Remove results in one transaction, then their bytes; returns those that went."""
    if not chosen:
        return ()
    with resources.uses.claiming(tenant, [(one.artifact_id, one.version) for one in chosen]):
        removed = await resources.write(
            tenant, partial(resources.retention.collect, tenant, chosen, before=before, act=act)
        )
        for one in removed:
            resources.forget_version(tenant, one.artifact_id, one.version)
    await remove_bytes(resources, removed)
    went = {(one.artifact_id, one.version) for one in removed}
    return tuple(one for one in chosen if (one.artifact_id, one.version) in went)
