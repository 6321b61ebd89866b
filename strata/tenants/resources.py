"""What the process lends to every actor: shared machinery, none of it holding a tenant's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from strata.artifacts import BlobStore, MetadataStore
from strata.auth import Principal
from strata.outcomes import Refused
from strata.tables import Catalogs, LoadedTable, may_see
from strata.tenants.budget import MemoryBudget
from strata.tenants.gate import Gate, table_resource
from strata.tenants.room import Room
from strata.work import LoopTurns, Tier, WorkPool

T = TypeVar("T")

WAITING_FOR_DISK = 64
"""Builds that may wait for the disk in a thread each; they do nothing meanwhile."""


@attrs.frozen(eq=False)
class Resources:
    """Everything an actor needs and does not own.

    Attributes:
        catalogs: The configured warehouses and catalogs.
        metadata: Artifacts, builds and names; every call names its tenant.
        blobs: Where results are kept; every call names the tenant's prefix.
        pool: The work pool, for CPU and files.
        gate: The access rules.
        cache_dir: Directory above the tenants' cache shards.
        new_id: Makes unguessable ids.
        waits: How many calls to databases and catalogs may block in threads at a time.
        transfers: How many calls to a remote blob store may block in threads at a time; None if blobs are
            local files, which are the pool's work.
        disk: How many builds may wait in threads for the disk at a time.
        turns: Whose large result leaves next.
        memory: What builds of all tenants may hold in flight; without any bound by default.
        room: Room for results; None where nobody looks.
    """

    catalogs: Catalogs
    metadata: MetadataStore
    blobs: BlobStore
    pool: WorkPool
    gate: Gate
    cache_dir: Path
    new_id: Callable[[], str]
    waits: trio.CapacityLimiter
    transfers: trio.CapacityLimiter | None = None
    disk: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(WAITING_FOR_DISK))
    turns: LoopTurns = attrs.field(factory=LoopTurns)
    memory: MemoryBudget = attrs.field(factory=partial(MemoryBudget, 2**62))
    room: Room | None = None

    async def nearly_full(self) -> bool:
        """Whether results have no room, as of a second ago."""
        room = self.room
        if room is None:
            return False
        now = trio.current_time()
        if not room.known(now):
            await self.ask(room.look, now)
        return room.full

    async def may_read(self, principal: Principal, inputs: Mapping[str, str]) -> bool:
        """Whether the rules of this moment let ``principal`` read what was made of these inputs.

        Args:
            principal: Who.
            inputs: Versions by URI, as they are noted with the result.
        """
        if self.gate.policy is None:
            return True
        for uri, version in inputs.items():
            ref = self.catalogs.resolve(uri)
            if isinstance(ref, Refused):
                return False
            access = self.gate.reading(principal, table_resource(ref))
            if not access.allowed:
                return False
            visible = access.visible
            if visible is None:
                continue
            table: LoadedTable | Refused | None = self.catalogs.peek(ref)
            if table is None:
                table = await self.ask(self.catalogs.load, ref)
            if isinstance(table, Refused) or not may_see(
                version, visible, table.metadata.schema(), ref.resource
            ):
                return False
        return True

    async def ask(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Call something that waits for a database or a catalog, in a thread.

        The call is not abandoned when the caller is cancelled: what it writes is known to have happened.
        """
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.waits)

    async def transfer(
        self, tenant: str, tier: Tier, function: Callable[[], T], /, *, cost: int | None = None
    ) -> T:
        """Open or commit a blob: in the work pool, or where waiting for a network holds up nobody's work.

        The call is not abandoned when the caller is cancelled.

        Args:
            tenant: Whose blob.
            tier: Interactive or bulk.
            function: The blocking call.
            cost: Expected bytes.
        """
        if self.transfers is not None:
            return await trio.to_thread.run_sync(function, limiter=self.transfers)
        if cost is None:
            return await self.pool.run(tenant, tier, function, abandon=False)
        return await self.pool.run(tenant, tier, function, cost=cost, abandon=False)
