"""The process's shared resources, which every actor uses; none of them holds a tenant's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import attrs
import trio

from strata import acl
from strata.artifacts import BlobStore, MetadataStore
from strata.auth import Principal
from strata.config.rules_file import RulesFile
from strata.outcomes import Refused
from strata.tables import Catalogs, LoadedTable, TableRef, catalog_unavailable, may_see
from strata.tenants.shared.authorizer import Authorizer, artifact_resource, table_resource
from strata.tenants.shared.disk_space import DiskSpaceGuard
from strata.tenants.shared.memory_budget import MemoryBudget
from strata.work import AdmissionQueue, EgressTurns, Tier, WorkPool
from strata.work.fair import LEAST_COST

T = TypeVar("T")

START_SECONDS = 0.1
"""Seconds after which a build that begins counts as waiting for remote storage, and the next one begins."""

WAITING_FOR_DISK = 64
"""Builds that may wait for the disk at a time, in a thread each; further ones wait for a thread."""


SMALL_COST = LEAST_COST
"""Cost in bytes of a quantum that handles few bytes."""

NOWHERE = acl.resource_name("tables", "-", "-", "-")
"""The resource that is decided on in the place of a missing result's table."""

LOOKS = 8
"""Calls that may wait for one catalog at a time, in threads of its own; further ones wait for one of them."""

LOOK_SECONDS = 30.0
"""Seconds a call may wait for one of a catalog's threads; then UNAVAILABLE."""


@attrs.frozen(eq=False)
class Resources:
    """Everything an actor needs and does not own.

    Attributes:
        catalogs: The configured warehouses and catalogs.
        metadata: Artifacts, builds and names; every call names its tenant.
        blobs: The bytes of results; every call names the tenant's prefix.
        pool: The work pool, for CPU and files.
        authorizer: The access rules.
        cache_dir: Directory above the tenants' cache shards.
        new_id: Returns unguessable ids.
        waits: Bounds the calls to databases that block in threads at a time.
        transfers: Bounds the calls to a remote blob store that block in threads at a time; None if blobs are
            local files, which the pool reads.
        disk: Bounds the builds that wait in threads for the disk at a time.
        turns: Egress turns of large results.
        starts: Admits builds that begin; one at a time by default.
        memory: Bounds the bytes that builds of all tenants hold in flight; unbounded by default.
        disk_space: Checks the disk's reserve; None where the disk is not watched.
        rules: Reads the rules' own file; None without a server.
    """

    catalogs: Catalogs
    metadata: MetadataStore
    blobs: BlobStore
    pool: WorkPool
    authorizer: Authorizer
    cache_dir: Path
    new_id: Callable[[], str]
    waits: trio.CapacityLimiter
    transfers: trio.CapacityLimiter | None = None
    disk: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(WAITING_FOR_DISK))
    turns: EgressTurns = attrs.field(factory=EgressTurns)
    starts: AdmissionQueue = attrs.field(factory=partial(AdmissionQueue, patience=START_SECONDS))
    memory: MemoryBudget = attrs.field(factory=partial(MemoryBudget, 2**62))
    disk_space: DiskSpaceGuard | None = None

    async def nearly_full(self) -> bool:
        """Return whether the disk is too full for another result, as of at most a second ago."""
        disk_space = self.disk_space
        if disk_space is None:
            return False
        now = trio.current_time()
        if not disk_space.known(now):
            await self.ask(disk_space.look, now)
        return disk_space.full

    rules: RulesFile | None = None
    _looks: dict[str, trio.CapacityLimiter] = attrs.field(init=False, factory=dict, repr=False)

    def decide_read(
        self,
        principal: Principal,
        inputs: Mapping[str, str] | None,
        artifact_id: str | None = None,
        loaded: Mapping[TableRef, LoadedTable] = MappingProxyType({}),
    ) -> bool | TableRef:
        """Decide by the rules of this moment whether ``principal`` may read a result.

        Every "no" takes the same decisions, whether the result is denied or missing.

        Args:
            principal: The caller.
            inputs: Versions by URI, as noted with the result; None: there is no such result.
            artifact_id: The result's id, which a rule may deny; None: only the inputs decide.
            loaded: Tables that were loaded for this decision.

        Returns the table that has to be loaded first, if there is one.
        """
        authorizer = self.authorizer
        denied = artifact_id is not None and authorizer.denies(
            principal, artifact_resource(artifact_id), "read"
        )
        if authorizer.policy is None:
            return inputs is not None
        if inputs is None:
            authorizer.reading(principal, NOWHERE)
            return False
        for uri, version in inputs.items():
            ref = self.catalogs.resolve(uri)
            if isinstance(ref, Refused):
                return False
            access = authorizer.reading(principal, table_resource(ref))
            if not access.allowed:
                return False
            if access.visible is not None:
                table = loaded.get(ref) or self.catalogs.peek(ref)
                if table is None:
                    return ref
                if not may_see(version, access.visible, table.metadata.schema(), ref.resource):
                    return False
        return not denied

    async def may_read(
        self, principal: Principal, inputs: Mapping[str, str] | None, artifact_id: str | None = None
    ) -> bool:
        """Decide as :meth:`decide_read`, and load the tables that takes."""
        loaded: dict[TableRef, LoadedTable] = {}
        while isinstance(found := self.decide_read(principal, inputs, artifact_id, loaded), TableRef):
            table = await self.look(found, self.catalogs.load, found)
            if isinstance(table, Refused):
                return False
            loaded[found] = table
        return found

    async def look(
        self, ref: TableRef, function: Callable[..., T | Refused], /, *args: object
    ) -> T | Refused:
        """Call a function that asks the catalog of ``ref``, in one of that catalog's few threads.

        So a catalog that does not answer holds up neither the metadata store nor other catalogs. Returns a
        refusal (UNAVAILABLE) when no thread was free within :data:`LOOK_SECONDS`.
        """
        limiter = self._looks.get(ref.catalog)
        if limiter is None:
            limiter = self._looks[ref.catalog] = trio.CapacityLimiter(LOOKS)
        with trio.move_on_after(LOOK_SECONDS):  # ends the wait for a thread, never a call that has begun
            return await trio.to_thread.run_sync(partial(function, *args), limiter=limiter)
        return catalog_unavailable(ref)

    @property
    def busy(self) -> bool:
        """Whether a quantum runs, or a call waits for a database or a catalog."""
        limiters = (self.waits, *self._looks.values())
        return self.pool.running > 0 or any(limiter.borrowed_tokens for limiter in limiters)

    async def ask(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Call a function that waits for a database, in a thread.

        The call is not abandoned when the caller is cancelled, so its writes are known to have happened.
        """
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.waits)

    async def transfer(
        self,
        tenant: str,
        tier: Tier,
        function: Callable[[], T],
        /,
        *,
        cost: int = SMALL_COST,
        principal: str = "",
    ) -> T:
        """Open or commit a blob: in the work pool, or for a remote store in threads of its own.

        The call is not abandoned when the caller is cancelled.

        Args:
            tenant: The blob's tenant.
            tier: Interactive or bulk.
            function: The blocking call.
            cost: Expected bytes.
            principal: The principal whose turn it takes in the pool.
        """
        if self.transfers is not None:
            return await trio.to_thread.run_sync(function, limiter=self.transfers)
        return await self.pool.run(tenant, tier, function, cost=cost, abandon=False, principal=principal)
