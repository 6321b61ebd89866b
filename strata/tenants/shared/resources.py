"""What the process lends to every actor: shared machinery, none of it holding a tenant's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
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
from strata.work import AdmissionQueue, EgressTurns, Tier, WorkPool, release_admission
from strata.work.fair import LEAST_COST

T = TypeVar("T")

START_SECONDS = 0.1
"""After so long a build that begins is taken to wait for storage far away, and the next one begins."""

WAITING_FOR_DISK = 64
"""Builds that may wait for the disk in a thread each; they do nothing meanwhile."""


SMALL_COST = LEAST_COST
"""What a quantum costs that handles no bytes worth counting."""

NOWHERE = acl.resource_name("tables", "-", "-", "-")
"""The table of a result that does not exist."""
LOOKS = 8
"""Calls that may wait for one catalog at a time: who waits for it leaves the threads of others alone."""

LOOK_SECONDS = 30.0
"""Longest wait for one of them."""


@attrs.frozen(eq=False)
class Resources:
    """Everything an actor needs and does not own.

    Attributes:
        catalogs: The configured warehouses and catalogs.
        metadata: Artifacts, builds and names; every call names its tenant.
        blobs: Where results are kept; every call names the tenant's prefix.
        pool: The work pool, for CPU and files.
        authorizer: The access rules.
        cache_dir: Directory above the tenants' cache shards.
        new_id: Makes unguessable ids.
        waits: How many calls to databases may block in threads at a time.
        transfers: How many calls to a remote blob store may block in threads at a time; None if blobs are
            local files, which are the pool's work.
        disk: How many builds may wait in threads for the disk at a time.
        turns: Whose large result leaves next.
        starts: Whose build begins next; by default one at a time.
        memory: What builds of all tenants may hold in flight; without any bound by default.
        disk_space: Whether the disk has space for another result; None where that is not watched.
        rules: Reads the rules' own file; None where there is no server around.
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
        """Whether results have no room, as of a second ago."""
        disk_space = self.disk_space
        if disk_space is None:
            return False
        now = trio.current_time()
        if not disk_space.known(now):
            await self.ask(disk_space.look, now)
        return disk_space.full

    rules: RulesFile | None = None
    _looks: dict[str, trio.CapacityLimiter] = attrs.field(init=False, factory=dict, repr=False)

    async def may_read_artifact(
        self, principal: Principal, artifact_id: str, inputs: Mapping[str, str]
    ) -> bool:
        """Whether the rules of this moment let ``principal`` read an artifact: its inputs, and no denial."""
        denied = self.authorizer.denies(principal, artifact_resource(artifact_id), "read")
        return await self.may_read(principal, inputs) and not denied  # both asked: the same work for any no

    async def miss_artifact(self, principal: Principal, artifact_id: str) -> None:
        """Do the work of :meth:`may_read_artifact` for an artifact that does not exist."""
        await self.may_read_artifact(principal, artifact_id, {})
        if self.authorizer.policy is not None:
            self.authorizer.reading(principal, NOWHERE)

    async def may_read(self, principal: Principal, inputs: Mapping[str, str]) -> bool:
        """Whether the rules of this moment let ``principal`` read what was made of these inputs.

        Args:
            principal: Who.
            inputs: Versions by URI, as they are noted with the result.
        """
        if self.authorizer.policy is None:
            return True
        for uri, version in inputs.items():
            found = self._may_read_input(principal, uri, version)
            if isinstance(found, TableRef):
                table = await self.look(found, self.catalogs.load, found)
                found = not isinstance(table, Refused) and self._may_read_input(
                    principal, uri, version, table
                )
            if found is not True:
                return False
        return True

    def known_to_read(self, principal: Principal, artifact_id: str, inputs: Mapping[str, str]) -> bool:
        """Whether :meth:`may_read_artifact` would say yes, and without asking a catalog."""
        denied = self.authorizer.denies(principal, artifact_resource(artifact_id), "read")
        readable = self.authorizer.policy is None or all(
            self._may_read_input(principal, uri, version) is True for uri, version in inputs.items()
        )
        return readable and not denied

    def miss_at_once(self, principal: Principal, artifact_id: str) -> None:
        """Do the work of :meth:`known_to_read` for an artifact that is not at hand, or does not exist."""
        self.known_to_read(principal, artifact_id, {})
        if self.authorizer.policy is not None:
            self.authorizer.reading(principal, NOWHERE)

    def _may_read_input(
        self, principal: Principal, uri: str, version: str, loaded: LoadedTable | None = None
    ) -> bool | TableRef:
        """Whether ``principal`` may read what was made of an input, or which table must be loaded first."""
        ref = self.catalogs.resolve(uri)
        if isinstance(ref, Refused):
            return False
        access = self.authorizer.reading(principal, table_resource(ref))
        if not access.allowed:
            return False
        if access.visible is None:
            return True
        table = loaded or self.catalogs.peek(ref)
        return (
            ref if table is None else may_see(version, access.visible, table.metadata.schema(), ref.resource)
        )

    async def look(
        self, ref: TableRef, function: Callable[..., T | Refused], /, *args: object
    ) -> T | Refused:
        """Call something that asks the catalog of ``ref``, in one of the few threads there are for it.

        A catalog that does not answer so holds up neither the metadata store nor other catalogs, whoever asks
        it. Returns a refusal (UNAVAILABLE) when no thread was free within :data:`LOOK_SECONDS`.
        """
        release_admission()
        limiter = self._looks.get(ref.catalog)
        if limiter is None:
            limiter = self._looks[ref.catalog] = trio.CapacityLimiter(LOOKS)
        with trio.move_on_after(LOOK_SECONDS):  # ends the wait for a thread, never a call that has begun
            return await trio.to_thread.run_sync(partial(function, *args), limiter=limiter)
        return catalog_unavailable(ref)

    @property
    def busy(self) -> bool:
        """Whether a thread works for somebody, or waits for a database or a catalog."""
        limiters = (self.waits, *self._looks.values())
        return self.pool.running > 0 or any(limiter.borrowed_tokens for limiter in limiters)

    async def ask(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Call something that waits for a database, in a thread.

        The call is not abandoned when the caller is cancelled: what it writes is known to have happened.
        """
        release_admission()
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
        """Open or commit a blob: in the work pool, or where waiting for a network holds up nobody's work.

        The call is not abandoned when the caller is cancelled.

        Args:
            tenant: Whose blob.
            tier: Interactive or bulk.
            function: The blocking call.
            cost: Expected bytes.
            principal: Who in the tenant wants it.
        """
        if self.transfers is not None:
            release_admission()
            return await trio.to_thread.run_sync(function, limiter=self.transfers)
        return await self.pool.run(tenant, tier, function, cost=cost, abandon=False, principal=principal)
