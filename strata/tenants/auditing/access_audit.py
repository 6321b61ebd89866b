"""Queue records of reads, and write them to the database off the event loop."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import attrs
import structlog
import trio

from strata import acl
from strata.artifacts.accesses.contract import Access, AccessStore, TableAccess
from strata.auth import Principal
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import TableRef
from strata.tables.catalogs.loading import Catalogs
from strata.tables.scan.cell_grants import snapshot_of
from strata.tenants.limits.model import TenantLimits
from strata.work.waiting_threads import Handover

PLACES: Final = 20_000
"""Records that wait to be written, of all tenants."""

NBYTES: Final = 32 << 20
"""Bytes of them."""

KEPT_NBYTES: Final = 1024
"""Bytes that a place takes before its record is known; that is put there whatever it takes."""

BATCH: Final = 500
"""Records written in one transaction."""

BATCH_NBYTES: Final = 1 << 20
"""Bytes of them; a single record may have more."""

BATCH_SECONDS: Final = 0.2
"""Seconds from a record to its transaction, in which more of them come together."""

RETRY_SECONDS: Final = 2.0
"""Seconds between a failed transaction and the next attempt."""

PATIENCE_SECONDS: Final = 30.0
"""Seconds that a transaction may take."""

CLOSING_SECONDS: Final = 1.0
"""Seconds for the last transactions when the server stops."""

TRIM_SECONDS: Final = 3600.0
"""Seconds between two removals of old records."""

DAY_SECONDS: Final = 86_400.0

MOST_TABLES: Final = 64
"""Tables of one record; of a result of more, the first ones are kept, and ``cut`` is set."""

MOST_LOOKED_AT: Final = 4096
"""Inputs among which they are looked for, within some milliseconds."""

MOST_CHARACTERS: Final = 256
"""Characters of a table's name, and of a rule."""

AUDIT_FULL: Final = Refused(
    Reason.UNAVAILABLE,
    "Reads must be recorded (access_audit_required), and the access audit cannot be written now.",
    code="access_audit_unavailable",
    retry_after=5,
)

T = TypeVar("T")

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class Retention:
    """How long accesses are kept, and what happens where they cannot be.

    Attributes:
        days: Days for which each is kept; 0: for ever.
        nbytes: Bytes kept of each tenant; 0: any number.
        required: Whether a read is refused that cannot be recorded.
    """

    days: float
    nbytes: int
    required: bool


@attrs.define(eq=False)
class AccessAudit:
    """Records reads of the tenants that want it.

    A tenant has at most as many records waiting, and bytes of them, as there are left: one that reads in a
    flood loses its own records and no other's.

    Attributes:
        store: Where the records go.
        catalogs: Resolve tables' URIs.
        decision: Returns a table's resource, and the decision on reading it with its rule.
        origins: Yields URI and version of each input, and of all that the inputs were made from.
        limits: Returns a tenant's limits.
        retention: Returns the retention of the moment.
        now: Wall clock, in seconds since the epoch.
        dropped: Records that were dropped, since the start.
        written: Records that were written, since the start.
    """

    store: AccessStore
    catalogs: Catalogs
    decision: Callable[[Principal, TableRef], tuple[str, acl.Decision]]
    origins: Callable[[Mapping[str, str]], Iterator[tuple[str, str]]]
    limits: Callable[[str], TenantLimits]
    retention: Callable[[], Retention]
    now: Callable[[], float]
    dropped: int = 0
    written: int = 0
    _queues: OrderedDict[str, deque[Access]] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _places: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _nbytes: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _aside: set[str] = attrs.field(factory=set, init=False)
    _most: int = attrs.field(default=BATCH, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _thread: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 2), init=False)
    _failing: bool = attrs.field(default=False, init=False)

    @property
    def waiting(self) -> int:
        """Records that wait to be written."""
        return sum(map(len, self._queues.values()))

    def wants(self, tenant: str) -> bool:
        """Whether reads of a tenant are recorded."""
        return self.limits(tenant).access_audit

    def keep_place(self, tenant: str) -> bool | Refused:
        """Keep a place for the record of a read that is let in, where it must be recorded.

        Returns whether one is kept, which :meth:`leave_places` gives back; the refusal of a read that could
        not be recorded.
        """
        if not self.wants(tenant) or not self.retention().required:
            return False
        if not self._has_room(tenant):
            return AUDIT_FULL
        self._charge(tenant, 1, KEPT_NBYTES)
        return True

    def leave_places(self, tenant: str, number: int) -> None:
        """Give places back that were kept."""
        if number:
            self._charge(tenant, -number, -number * KEPT_NBYTES)

    def _has_room(self, tenant: str) -> bool:
        places, nbytes = PLACES - self._places.total(), NBYTES - self._nbytes.total()
        return self._places[tenant] < places and self._nbytes[tenant] < nbytes

    def _charge(self, tenant: str, places: int, nbytes: int) -> None:
        for counter, amount in ((self._places, places), (self._nbytes, nbytes)):
            counter[tenant] += amount
            if not counter[tenant]:
                del counter[tenant]

    def note(
        self,
        who: Principal,
        facts: Mapping[str, Any],
        *,
        kept: bool = False,
        inputs: Mapping[str, str] | Iterable[str] = (),
    ) -> None:
        """Record a read of a tenant that wants it; where there is no room, count it as dropped.

        Args:
            who: The caller.
            facts: The fields of :class:`Access` but those of the caller and the tables.
            kept: Whether a place was kept for it, which the caller gives back: then it is always recorded.
            inputs: Versions by URI of the tables and results behind it; of a refused read the URIs alone.
        """
        if not (kept or self.wants(who.tenant)):
            return
        if not (kept or self._has_room(who.tenant)):
            if not self.dropped:
                log.error("access records dropped: the audit cannot be written fast enough")
            self.dropped += 1
            return
        tables, cut = self._tables(who, inputs)
        access = Access(at=self.now(), tenant=who.tenant, principal=who.id, tables=tables, cut=cut, **facts)
        self._queues.setdefault(who.tenant, deque()).append(access)
        self._charge(who.tenant, 1, _size(access))
        self._wake.set()

    def _tables(
        self, who: Principal, inputs: Mapping[str, str] | Iterable[str]
    ) -> tuple[tuple[TableAccess, ...], bool]:
        """Return the tables behind inputs, each once, and whether some were left out."""
        pairs = self.origins(inputs) if isinstance(inputs, Mapping) else ((uri, "") for uri in inputs)
        found: dict[tuple[TableRef, str], None] = {}
        for looked, (uri, version) in enumerate(pairs):
            if looked == MOST_LOOKED_AT:
                return self._decided(who, found), True
            ref = self.catalogs.resolve(uri)
            if not isinstance(ref, TableRef) or (ref, version) in found:
                continue
            if len(found) == MOST_TABLES:
                return self._decided(who, found), True
            found[ref, version] = None
        return self._decided(who, found), False

    def _decided(self, who: Principal, found: Iterable[tuple[TableRef, str]]) -> tuple[TableAccess, ...]:
        return tuple(self._table(who, ref, version) for ref, version in found)

    def _table(self, who: Principal, ref: TableRef, version: str) -> TableAccess:
        resource, decision = self.decision(who, ref)
        return TableAccess(
            table=_cut(resource.removeprefix("tables/")),
            snapshot=snapshot_of(version) if version else None,
            rule=_cut(rule_words(decision)),
            allowed=decision.allowed,
        )

    async def run(self) -> None:
        """Write what is queued until cancelled; then what is left, for a moment."""
        try:
            while True:
                await self._wake.wait()
                await trio.sleep(BATCH_SECONDS)
                if not await self._write(PATIENCE_SECONDS):
                    await trio.sleep(RETRY_SECONDS)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSING_SECONDS):
                while self._queues:
                    if not await self._write(CLOSING_SECONDS):
                        await trio.sleep(BATCH_SECONDS)
            if self._queues:
                log.error("access records lost: the audit could not be written", records=self.waiting)

    async def _write(self, seconds: float) -> bool:
        """Write a batch; returns whether it is written.

        One that is not stays queued. The next one is half as large and begins with another tenant. The tenant
        of a single record that was not written stands aside: its next one is tried alone, after the others'.
        """
        batch = self._batch()
        try:
            if batch:
                await self._call(partial(self.store.add, batch), seconds)
        except (RefusalError, trio.TooSlowError, ValueError) as error:
            if not self._failing:
                log.error("access audit not written", records=self.waiting, error=type(error).__name__)  # noqa: TRY400
            self._failing = True
            self._most = max(1, len(batch) // 2)
            self._queues.move_to_end(batch[0].tenant)
            if len(batch) == 1:
                self._aside.add(batch[0].tenant)
            return False
        self._failing = False
        self._most = min(BATCH, 2 * self._most)
        self._aside -= {access.tenant for access in batch}
        for access in batch:
            queue = self._queues[access.tenant]
            queue.popleft()
            if not queue:
                del self._queues[access.tenant]
            self._charge(access.tenant, -1, -_size(access))
        self.written += len(batch)
        if not self._queues:
            self._wake = trio.Event()
        return True

    def _batch(self) -> list[Access]:
        """Return the next records, one tenant's after another's, of at most :data:`BATCH_NBYTES` but one."""
        batch: list[Access] = []
        nbytes = 0
        for tenant, queue in self._queues.items():
            if tenant in self._aside:
                continue
            for access in queue:
                nbytes += _size(access)
                if batch and (len(batch) >= self._most or nbytes > BATCH_NBYTES):
                    return batch
                batch.append(access)
        return batch or [queue[0] for queue in islice(self._queues.values(), 1)]

    async def keep(self) -> None:
        """Remove old records from time to time, until cancelled."""
        while True:
            try:
                await self.trim()
            except (RefusalError, trio.TooSlowError) as error:
                log.warning("access audit not trimmed", error=type(error).__name__)
            await trio.sleep(TRIM_SECONDS)

    async def trim(self) -> None:
        """Remove what the retention does not keep, one tenant after another."""
        for tenant in await self._call(self.store.tenants, PATIENCE_SECONDS):
            kept = self.retention()
            since = self.now() - kept.days * DAY_SECONDS if kept.days else 0.0
            trim = partial(self.store.trim, tenant, since=since, nbytes=kept.nbytes)
            removed = await self._call(trim, PATIENCE_SECONDS)
            if removed:
                log.info("access records removed", tenant=tenant, records=removed)

    async def _call(self, function: Callable[[], T], seconds: float) -> T:
        """Call the database in a thread of this audit's own: tenants' calls do not delay it."""
        call = Handover(function)
        try:
            with trio.fail_after(seconds):
                return await trio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=self._thread)
        except (trio.Cancelled, trio.TooSlowError):
            call.leave()
            raise


def _size(access: Access) -> int:
    """Return the bytes that a record takes, about."""
    texts = len(access.principal) + len(access.request_id) + len(access.outcome)
    return KEPT_NBYTES + texts + sum(256 + 4 * (len(one.table) + len(one.rule)) for one in access.tables)


def _cut(text: str) -> str:
    """Return a text of the caller's as it can be kept: not too long, and nothing that is no character."""
    short = text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
    return short.encode(errors="backslashreplace").decode()


def rule_words(decision: acl.Decision) -> str:
    """Return the rule that decided, as people write it; else the part of the policy that did."""
    if decision.rule is None:
        return decision.reason.value
    effect = "allow" if decision.allowed else "deny"
    return f"{effect} {decision.rule.principal} on {decision.rule.resource}"
