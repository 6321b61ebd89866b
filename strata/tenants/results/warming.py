"""Cache warming: tables are read into the cache before a scan needs them."""

from __future__ import annotations

from functools import partial

import attrs

from strata.auth import Principal
from strata.cache import SegmentKey
from strata.outcomes import RefusalError, Refused
from strata.readers import READERS, expand_in_reader
from strata.tables import ScanPlan, expand_file, is_local
from strata.tenants import messages as m
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.runner import BuildRequest
from strata.tenants.shared.authorizer import CACHE_RESOURCE
from strata.tenants.shared.resources import SMALL_COST
from strata.work import Tier


@attrs.define(eq=False)
class CacheWarmer:
    """Warms one tenant's cache, within the caller's rights and by ordinary builds.

    Attributes:
        materializer: Builds what is missing, with the slots, limits and deadlines of any build.
    """

    materializer: Materializer

    async def warm(self, question: m.WarmCache) -> m.Warmed | Refused:
        """Cache the row groups of all parts; every part is authorized before any is read."""
        builder = self.materializer.builder
        refused = builder.resources.authorizer.check_admin(question.principal, CACHE_RESOURCE)
        if refused is not None:
            return refused
        asked = [m.Transformation((part.uri,), SCAN, {"columns": part.columns}) for part in question.parts]
        orders = []
        for what in asked:
            resolved = await self.materializer.resolve(question.principal, what)
            if isinstance(resolved, Refused):
                return resolved
            orders.append(BuildRequest(*resolved, SCAN, None, question.principal.id))
        segments, found, cached = [], [], []
        for order in orders:
            plan = await builder.plan(order.scan, order.principal)
            keys = await self._keys(plan, order.principal)
            before = self._cached(plan, keys)
            if before < len(keys):
                failed = await self._build(order, question.principal)
                if failed is not None:
                    return failed
            segments.append(len(keys))
            found.append(before)
            cached.append(self._cached(plan, keys))
        return m.Warmed(tuple(segments), tuple(found), tuple(cached))

    async def _build(self, order: BuildRequest, caller: Principal) -> Refused | None:
        """Build a result, or wait for its running build; its row groups go into the cache."""
        build = await self.materializer.under_way(order.provenance.key)
        if build is None:
            started = self.materializer.start(order)
            if isinstance(started, Refused):
                return started
            build = started
        build.callers.add(caller)
        await build.wait_admitted()
        await build.settled.wait()
        return build.outcome if isinstance(build.outcome, Refused) else None

    async def _keys(self, plan: ScanPlan, principal: str) -> list[SegmentKey]:
        """Return the keys of a plan's row groups; each file's footer is a quantum.

        Raises:
            RefusalError: If a file cannot be read.
        """
        keys: list[SegmentKey] = []
        pool, tenant = self.materializer.resources.pool, self.materializer.tenant
        for file in plan.files:
            expand = partial(expand_file, plan, file)
            if READERS.available:
                expand = partial(expand_in_reader, plan, file, self.materializer.builder.limits.fetch_timeout)
            if is_local(plan.scan.table.io, file.path):
                tasks = await pool.run(tenant, Tier.BULK, expand, cost=SMALL_COST, principal=principal)
            else:
                tasks = await self.materializer.resources.threads.network.run(tenant, expand)
            if isinstance(tasks, Refused):
                raise RefusalError(tasks)
            keys += [SegmentKey(task.file.file_key, task.index) for task in tasks]
        return keys

    def _cached(self, plan: ScanPlan, keys: list[SegmentKey]) -> int:
        return sum(self.materializer.builder.shard.holds(key, plan.segment_fields) for key in keys)
