"""The process's shared resources, which every actor uses; none of them holds a live tenant's state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakValueDictionary

import attrs
import trio
from cachetools import LRUCache

from strata import acl
from strata.artifacts import BlobStore, BuildRecord, MetadataStore
from strata.artifacts.registry.contract import RegistryStore
from strata.artifacts.retention.contract import RetentionStore
from strata.artifacts.servers.contract import ServerStore
from strata.auth import Principal
from strata.cells.runtime import BUNDLES, CellRuntime
from strata.config.rules_file import RulesFile
from strata.notebooks.store.contract import NotebookStore
from strata.outcomes import RefusalError, Refused
from strata.tables import CALLER, Catalogs, CellGrants, LoadedTable, TableRef, may_see, read_alike
from strata.tenants.auditing.access_audit import AccessAudit
from strata.tenants.budgets.disk_space import DiskSpaceGuard
from strata.tenants.budgets.memory_budget import MemoryBudget
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.shared.artifact_inputs import SCHEME, all_inputs, artifact_of
from strata.tenants.shared.authorizer import Authorizer, artifact_resource, table_resource
from strata.tenants.shared.blob_locks import BlobLocks
from strata.tenants.shared.byte_stream import ByteStream
from strata.tenants.shared.health_probe import HealthProbe
from strata.tenants.shared.left_streams import LeftStreams
from strata.tenants.shared.rights_watch import RightsWatch
from strata.tenants.shared.table_loader import TableLoader
from strata.tenants.shared.thread_groups import (
    DISK_DOWN,
    DISK_SECONDS,
    NETWORK_BYTES_PER_SECOND,
    ThreadGroups,
)
from strata.tenants.shared.transform_runtime import SPILL, TransformRuntime
from strata.tenants.stats.lent_files import LentFiles
from strata.tenants.stats.recent_uses import RecentUses
from strata.tenants.stats.unended_builds import UnendedBuilds
from strata.tracing.spans import child
from strata.work import AdmissionQueue, EgressTurns, Tier, WorkPool
from strata.work.fair import LEAST_COST
from strata.work.waiting_threads import Handover

T = TypeVar("T")

DELETING_SECONDS = 0.05
"""Seconds between two looks whether another server has deleted the bytes that this one commits anew."""

START_SECONDS = 0.1
"""Seconds after which a build that begins counts as waiting for remote storage, and the next one begins."""

SMALL_COST = LEAST_COST
"""Cost in bytes of a quantum that handles few bytes."""

NOWHERE = acl.resource_name("tables", "-", "-", "-")
"""The resource that is decided on in the place of a missing result's table."""

DENIED_REMEMBERED = 1024
"""Tenants of which the inputs of the last denied result are remembered; the one unused for longest goes, and
its missing results are decided on by :data:`NOWHERE`."""

SEEN_BYTES = 256
"""Bytes that a remembered decision on a version and a caller's cells is counted as, besides its text."""


BYTES_PER_SECOND = 650_000_000
"""Bytes that a second of computation is charged as: those that a scan reads in a second of a core."""


@attrs.frozen(eq=False)
class _Done:
    """What a computation gave, and the seconds of the processor that it took."""

    seconds: float
    result: object = None
    error: Exception | None = None


def _timed(function: Callable[[], object]) -> _Done:
    began = time.thread_time()
    try:
        result = function()
    except Exception as error:  # noqa: BLE001  # raised to the caller, once the time is charged
        return _Done(time.thread_time() - began, error=error)
    return _Done(time.thread_time() - began, result)


def _bytes_of(done: _Done) -> int:
    return max(SMALL_COST, int(done.seconds * BYTES_PER_SECOND))


class Forgetter(Protocol):
    """Remembers finished results of a tenant."""

    def forget(self, artifact_id: str, version: int) -> None:
        """Forget a version that was removed."""


@attrs.frozen(eq=False)
class SignedBlobs:
    """Addresses by which a proxy fetches remote blobs.

    Attributes:
        location: Path of the proxy's internal location that fetches them.
        sign: Returns the address of a blob by the tenant's prefix, the blob's hash and its size. Blocking.
    """

    location: str
    sign: Callable[[str, str, int], str | Refused]


@attrs.frozen(eq=False)
class Resources:
    """Everything an actor needs and does not own.

    Attributes:
        catalogs: The configured warehouses and catalogs.
        metadata: Artifacts, builds and names; every call names its tenant.
        retention: Ends results, in the same database.
        registry: Names, aliases, tags and pins of results, in the same database.
        notebooks: Notebooks and their revisions; every call names its tenant.
        blobs: The bytes of results; every call names the tenant's prefix.
        blob_locks: Held while bytes are committed or removed.
        pool: The work pool, for CPU and files.
        authorizer: The access rules.
        cache_dir: Directory above the tenants' cache shards.
        new_id: Returns unguessable ids.
        threads: Threads for calls that wait.
        remote_blobs: Whether blobs are in a remote store; local ones are files, which the pool reads.
        published: Returns the name by which a proxy can send a finished result; None: the server sends all.
        signed: Signs addresses of remote blobs for a proxy; None: the server sends all.
        lent: The blobs that a proxy was told to send.
        turns: Egress turns of large results.
        starts: Admits builds that begin, and computations; one at a time by default.
        memory: Bounds the bytes that builds of all tenants hold in flight; unbounded by default.
        remembered: Bounds the bytes that all tenants' caches of records, plans and small results hold
            together; unbounded by default.
        disk_space: Checks the disk's reserve; None where the disk is not watched.
        uses: Which finished results are in use, were used lately, or are about to be removed.
        stored: Bytes that the largest tenants keep, as of some seconds ago.
        forgetters: What each live actor remembers of finished results; it goes with the actor.
        left_streams: Promised streams of tenants that have no actor.
        unended: Failed builds that the store could not be told of.
        servers: The servers that share the metadata database; None if this one has it alone.
        accesses: Records who read what; None without a server.
        shared_order: Returns an order that first looks for the build on the other servers; None without them.
        rules: Reads the rules' own file; None without a server.
        rights: Ends the work under way that replaced rules do not permit.
        tables: Loads tables.
        health: Probes the metadata store.
        transforms: What transforms of all tenants share.
        cells: What cells of all tenants' notebooks share.
    """

    catalogs: Catalogs
    metadata: MetadataStore
    retention: RetentionStore
    registry: RegistryStore
    notebooks: NotebookStore
    blobs: BlobStore
    pool: WorkPool
    authorizer: Authorizer
    cache_dir: Path
    new_id: Callable[[], str]
    threads: ThreadGroups = attrs.field(factory=ThreadGroups)
    remote_blobs: bool = False
    published: Callable[[ByteStream], str | None] | None = None
    signed: SignedBlobs | None = None
    lent: LentFiles = attrs.field(factory=LentFiles)
    turns: EgressTurns = attrs.field(factory=EgressTurns)
    starts: AdmissionQueue = attrs.field(factory=partial(AdmissionQueue, patience=START_SECONDS))
    memory: MemoryBudget = attrs.field(factory=partial(MemoryBudget, 2**62))
    remembered: RememberedBudget = attrs.field(factory=partial(RememberedBudget, 2**62))
    disk_space: DiskSpaceGuard | None = None
    left_streams: LeftStreams = attrs.field(factory=LeftStreams)
    blob_locks: BlobLocks = attrs.field(factory=BlobLocks)
    unended: UnendedBuilds = attrs.field(factory=UnendedBuilds)
    servers: ServerStore | None = None
    accesses: AccessAudit | None = None
    shared_order: Callable[[Any], Any] | None = None

    uses: RecentUses = attrs.field(factory=RecentUses)
    stored: dict[str, int] = attrs.field(factory=dict, repr=False)
    forgetters: MutableMapping[str, Forgetter] = attrs.field(factory=WeakValueDictionary, repr=False)

    def is_elsewhere(self, build: BuildRecord) -> bool:
        """Whether a build belongs to another server that shares the metadata database."""
        return self.servers is not None and build.server_id != self.servers.server_id

    async def note_bytes(self, tenant: str, build_id: str, sha256: str) -> None:
        """Note the bytes that a build is about to commit, so that no other server deletes equal ones.

        Raises:
            RefusalError: If the build was taken over, or another server deletes equal bytes for too long.
        """
        if self.servers is None:
            return
        until = trio.current_time() + DISK_SECONDS
        while trio.current_time() < until:
            noted = await self.write(tenant, self.servers.note_bytes, tenant, build_id, sha256)
            if isinstance(noted, Refused):
                raise RefusalError(noted)
            if noted:
                return
            await trio.sleep(DELETING_SECONDS)
        raise RefusalError(DISK_DOWN)

    def forget_version(self, tenant: str, artifact_id: str, version: int) -> None:
        """Have a tenant's live actor, if there is one, forget a removed version."""
        forgetter = self.forgetters.get(tenant)
        if forgetter is not None:
            forgetter.forget(artifact_id, version)

    rules: RulesFile | None = None
    rights: RightsWatch = attrs.field(init=False)
    tables: TableLoader = attrs.field(init=False, repr=False)
    health: HealthProbe = attrs.field(init=False, repr=False)
    transforms: TransformRuntime = attrs.field(init=False, repr=False)
    cells: CellRuntime = attrs.field(init=False, repr=False)

    @rights.default
    def _watch_of_rules(self) -> RightsWatch:
        return RightsWatch(self.authorizer)

    @health.default
    def _unprobed(self) -> HealthProbe:
        return HealthProbe(self.threads.health)

    @transforms.default
    def _none_registered(self) -> TransformRuntime:
        return TransformRuntime(self.cache_dir / SPILL)

    @cells.default
    def _no_workers(self) -> CellRuntime:
        return CellRuntime(self.cache_dir / BUNDLES)

    @tables.default
    def _nothing_asked(self) -> TableLoader:
        return TableLoader(self.catalogs, self.threads)

    _denied: LRUCache[str, Mapping[str, str]] = attrs.field(
        init=False, factory=partial(LRUCache, DENIED_REMEMBERED), repr=False
    )

    @property
    def all_readable(self) -> bool:
        """Whether a principal may read all results of its tenant: neither rules nor catalogs restrict."""
        return self.authorizer.policy is None and not self.catalogs.restricting

    def decide_read(
        self,
        principal: Principal,
        inputs: Mapping[str, str] | None,
        artifact_id: str | None = None,
        loaded: Mapping[TableRef, LoadedTable] = MappingProxyType({}),
    ) -> bool | TableRef:
        """Decide by the rules of this moment whether ``principal`` may read a result.

        Every "no" takes the same decisions, whether the result is denied or missing: in the place of a
        missing one, the result of the tenant that was denied last is decided on.

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
        if self.all_readable:
            return inputs is not None
        decided = self._denied.get(principal.tenant) if inputs is None else inputs
        if decided is None:
            authorizer.reading(principal, NOWHERE)
            return False
        answer = True
        results = any(uri.startswith(SCHEME) for uri in decided)
        for uri, version in all_inputs(decided) if results else decided.items():
            one = self._decide_input(principal, uri, version, loaded)
            if isinstance(one, TableRef):
                return one
            answer = one
            if not answer:
                break
        if inputs is None:
            return False
        answer = answer and not denied
        if not answer:
            self._denied[principal.tenant] = inputs
        return answer

    def _decide_input(
        self, principal: Principal, uri: str, version: str, loaded: Mapping[TableRef, LoadedTable]
    ) -> bool | TableRef:
        authorizer = self.authorizer
        made = artifact_of(uri) if uri.startswith(SCHEME) else None
        if made is not None:
            return not authorizer.denies(principal, artifact_resource(made[0]), "read")
        ref = self.catalogs.resolve(uri)
        access = None if isinstance(ref, Refused) else authorizer.reading(principal, table_resource(ref))
        if access is None or isinstance(ref, Refused) or not access.allowed:
            return False
        if access.visible is None and not self.catalogs.may_restrict(ref):
            return CALLER not in version  # such a result is of a catalog that the alias once had
        ref = self.catalogs.asked_by(ref, principal.tenant, principal.id)
        table = loaded.get(ref) or self.catalogs.peek(ref)
        if table is None:
            return ref
        demanded = None if table.restrictions is None else table.restrictions.digest
        return read_alike(version, demanded, ref.caller) and (
            access.visible is None or _sees(table, version, access.visible)
        )

    async def may_read(
        self, principal: Principal, inputs: Mapping[str, str] | None, artifact_id: str | None = None
    ) -> bool:
        """Decide as :meth:`decide_read`, and load the tables that takes."""
        loaded: dict[TableRef, LoadedTable] = {}
        while isinstance(found := self.decide_read(principal, inputs, artifact_id, loaded), TableRef):
            table = await self.tables.load(principal.tenant, found)
            if isinstance(table, Refused):
                return False
            loaded[found] = table
        return found

    @property
    def busy(self) -> bool:
        """Whether a quantum runs, or a call that is awaited waits in a thread."""
        return self.pool.running > 0 or self.threads.busy

    async def ask(self, tenant: str, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Call a function that reads the metadata store, in a thread of the tenant's share.

        The call is interrupted when the caller is cancelled.

        Raises:
            RefusalError: UNAVAILABLE if it gets no thread, or no answer, in time.
        """
        with child("metadata read"):
            return await self.threads.reads.run(tenant, partial(function, *args, **kwargs))

    async def write(
        self,
        tenant: str,
        function: Callable[..., T],
        /,
        *args: object,
        discard: Callable[[T], object] | None = None,
        until: float = math.inf,
        **kwargs: object,
    ) -> T:
        """Call a function that writes to the metadata store, in a thread of the tenant's share.

        A caller that is cancelled waits for its end, so the write is known to have happened or not.

        Args:
            tenant: The tenant.
            function: The blocking call.
            args: Its arguments.
            discard: Called in a thread with the result of a call that was abandoned.
            until: Deadline, on Trio's clock, if it is earlier than the threads' own.
            kwargs: Its arguments.

        Raises:
            RefusalError: UNAVAILABLE if it gets no thread in time, or did not end in time: it was interrupted
                then, and has not happened, unless the database hangs in the middle of a commit.
        """
        call = partial(function, *args, **kwargs)
        with child("metadata write"):
            return await self.threads.writes.run(tenant, call, keep=True, discard=discard, until=until)

    async def compute(self, tenant: str, principal: str, function: Callable[[], T]) -> T:
        """Call a function that computes for longer than the event loop may, in the work pool.

        The tenant is charged the processor's time that it took, also when it fails, as the bytes that are
        scanned in the same time (:data:`BYTES_PER_SECOND`). Tenants take turns, also with builds that begin:
        all this is Python code, and with two threads of it the event loop waits twice as long for the
        interpreter.

        Args:
            tenant: The tenant.
            principal: The principal whose turn it takes in the pool.
            function: The computation; its exceptions are raised to the caller.
        """
        token = await self.starts.take(tenant, principal)
        try:
            done = await self.pool.run(
                tenant, Tier.INTERACTIVE, partial(_timed, function), principal=principal, charge=_bytes_of
            )
        finally:
            token.release()
        if done.error is not None:
            raise done.error
        return cast("T", done.result)

    async def transfer(
        self,
        tenant: str,
        tier: Tier,
        function: Callable[[], T],
        /,
        *,
        cost: int = SMALL_COST,
        principal: str = "",
        keep: bool = False,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        """Open or commit a blob: in the work pool, or for a remote store in threads of the tenant's share.

        Args:
            tenant: The blob's tenant.
            tier: Interactive or bulk.
            function: The blocking call.
            cost: Expected bytes, which give a remote call its time.
            principal: The principal whose turn it takes in the pool.
            keep: Wait for the end of the call though the caller is cancelled.
            discard: Called with the result of a call that was abandoned.

        Raises:
            RefusalError: UNAVAILABLE if the call gets no thread, or does not end, in time.
        """
        if self.remote_blobs:
            seconds = cost / NETWORK_BYTES_PER_SECOND
            network = self.threads.network
            return await network.run(tenant, function, keep=keep, discard=discard, more_seconds=seconds)
        if keep:
            return await self.pool.run(tenant, tier, function, cost=cost, abandon=False, principal=principal)
        call = Handover(function, discard)
        with trio.move_on_after(DISK_SECONDS):
            try:
                return await self.pool.run(tenant, tier, call.run, cost=cost, principal=principal)
            except trio.Cancelled:
                call.leave()
                raise
        raise RefusalError(DISK_DOWN)


def _sees(table: LoadedTable, version: str, visible: CellGrants) -> bool:
    """Decide as :func:`strata.tables.may_see`, remembered with the table's metadata."""
    key = f"sees {id(visible)} {version}"  # the remembered object keeps its id its own
    known = table.scans.get(key)
    if isinstance(known, tuple) and known[0] is visible:
        return bool(known[1])
    answer = may_see(version, visible, table.metadata, table.ref.resource)
    table.scans.put(key, (visible, answer), len(key) + SEEN_BYTES)
    return answer
